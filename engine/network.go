package engine

import (
	"context"
	"slices"

	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/volume"
	"sampan.dev/sampan/internal/fault"
)

type (
	// A NetworkSpec is what a network shall be.
	NetworkSpec = network.Spec
	// A Network is a bridge: its containers reach each other by name, those of other networks not.
	Network = network.Network
	// A Port of a container that answers on the host.
	Port = network.Port
	// A Pool is where the addresses of a network come from.
	Pool = network.Pool
	// A VolumeSpec is what a volume shall be.
	VolumeSpec = volume.Spec
	// A VolumeInfo is a directory that outlives the containers which use it.
	VolumeInfo = volume.Volume
)

// Names of networks that are always there.
const (
	DefaultNetwork = network.Default
	HostNetwork    = network.Host // the machine's own
	NoNetwork      = network.None
)

// CreateNetwork makes a network.
func (e *Engine) CreateNetwork(ctx context.Context, s NetworkSpec) (Network, error) {
	n, err := e.networks.Create(ctx, s)
	return n, e.tell(err, "network", "create", n.ID, n.Name)
}

// Network finds one by name, ID or the beginning of it.
func (e *Engine) Network(ctx context.Context, name string) (Network, error) {
	return e.networks.Network(name)
}

// Networks lists the bridges by name. The default one is among them.
func (e *Engine) Networks(ctx context.Context) ([]Network, error) {
	if _, err := e.networks.Network(DefaultNetwork); err != nil {
		return nil, err
	}
	return e.networks.Networks(), nil
}

// NetworkMembers are the containers that are in a network now, by ID.
func (e *Engine) NetworkMembers(ctx context.Context, name string) (map[string]Endpoint, error) {
	n, err := e.networks.Network(name)
	if err != nil {
		return nil, err
	}
	return e.networks.Members(n.Name), nil
}

// RemoveNetwork takes away a network that no container is in. One that is stopped and belongs
// to it can be started in another.
func (e *Engine) RemoveNetwork(ctx context.Context, name string) error {
	n, err := e.networks.Network(name)
	if err != nil {
		return err
	}
	return e.tell(e.networks.Remove(ctx, name), "network", "destroy", n.ID, n.Name)
}

// Connect puts a container into a further network, at once when it runs.
func (e *Engine) Connect(ctx context.Context, id, name string, a Attachment) error {
	n, err := e.networks.Network(name)
	if err != nil {
		return err
	}
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	r := c.now()
	if len(r.Spec.Networks) == 0 && r.Spec.Network != NoNetwork {
		return fault.Invalid("container %s has no network of its own: it is in the network %s", r.Name, r.Spec.Network)
	}
	a.Network = n.Name
	if slices.ContainsFunc(r.Spec.Networks, func(b Attachment) bool { return b.Network == n.Name }) {
		return fault.Conflict("container %s is in the network %s already", r.Name, n.Name)
	}
	if _, up := e.networks.Place(r.ID); up {
		if _, err := e.networks.Connect(ctx, r.ID, endpointOf(r, a)); err != nil {
			return err
		}
	} else if now, err := e.Container(ctx, r.ID); err == nil && active(supervisor.State(now.State)) {
		return fault.Invalid("container %s was started without a network", r.Name).Try("stop it first")
	}
	err = e.change(c, func(r *record) {
		r.Spec.Networks = append(slices.Clone(r.Spec.Networks), a)
		if r.Spec.Network == NoNetwork {
			r.Spec.Network = n.Name
		}
	})
	return e.tell(err, "network", "connect", n.ID, n.Name, "container", r.ID)
}

// Disconnect takes a container out of a network, at once when it runs.
func (e *Engine) Disconnect(ctx context.Context, id, name string, force bool) error {
	n, err := e.networks.Network(name)
	if err != nil {
		return err
	}
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	r := c.now()
	if !slices.ContainsFunc(r.Spec.Networks, func(b Attachment) bool { return b.Network == n.Name }) {
		return fault.Conflict("container %s is not in the network %s", r.Name, n.Name)
	}
	if _, up := e.networks.Place(r.ID); up {
		if err := e.networks.Disconnect(ctx, r.ID, n.Name); err != nil && !force {
			return err
		}
	}
	err = e.change(c, func(r *record) {
		r.Spec.Networks = slices.DeleteFunc(slices.Clone(r.Spec.Networks), func(b Attachment) bool { return b.Network == n.Name })
		if r.Spec.Network == n.Name {
			r.Spec.Network = NoNetwork
			if len(r.Spec.Networks) > 0 {
				r.Spec.Network = r.Spec.Networks[0].Network
			}
		}
	})
	return e.tell(err, "network", "disconnect", n.ID, n.Name, "container", r.ID)
}

// Sandbox opens a network namespace in a network, for what is no container of this engine. It
// is gone after end, and after the end of this process.
func (e *Engine) Sandbox(ctx context.Context, name string) (path string, end func() error, err error) {
	id := newID()
	place, err := e.networks.Open(ctx, network.Sandbox{ID: id, Endpoints: []network.Options{{Network: name}}})
	if err != nil {
		return "", nil, err
	}
	return place.NetNS, func() error { return e.networks.Leave(id) }, nil
}

// CreateVolume makes a volume, or returns the one that has the name. An empty name is chosen.
func (e *Engine) CreateVolume(ctx context.Context, s VolumeSpec) (VolumeInfo, error) {
	v, err := e.volumes.Create(s)
	return v, e.tell(err, "volume", "create", v.Name, v.Name)
}

// Volume finds one by name.
func (e *Engine) Volume(ctx context.Context, name string) (VolumeInfo, error) {
	return e.volumes.Volume(name)
}

// Volumes lists all by name.
func (e *Engine) Volumes(ctx context.Context) ([]VolumeInfo, error) { return e.volumes.Volumes() }

// VolumeUsers counts the containers that have each of the volumes.
func (e *Engine) VolumeUsers(ctx context.Context) map[string]int {
	users := map[string]int{}
	for _, c := range e.all() {
		for _, m := range c.Volumes {
			users[m.Source]++
		}
	}
	return users
}

// RemoveVolume deletes a volume that no container uses, and what is in it. With force it is no
// error that there is none.
func (e *Engine) RemoveVolume(ctx context.Context, name string, force bool) error {
	for _, c := range e.all() {
		for _, m := range c.Volumes {
			if m.Source == name {
				return fault.Conflict("container %s uses the volume %s", c.Name, name).Try("remove the container first")
			}
		}
	}
	err := e.volumes.Remove(name)
	if force && fault.Is(err, fault.KindNotFound) {
		return nil
	}
	return e.tell(err, "volume", "destroy", name, name)
}
