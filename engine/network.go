package engine

import (
	"context"

	"sampan.dev/sampan/engine/internal/network"
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

// RemoveNetwork takes away a network that no container belongs to.
func (e *Engine) RemoveNetwork(ctx context.Context, name string) error {
	n, err := e.networks.Network(name)
	if err != nil {
		return err
	}
	for _, c := range e.all() {
		if c.Spec.Network == n.Name {
			return fault.Conflict("container %s belongs to the network %s", c.Name, n.Name).Try("remove the container first")
		}
	}
	return e.tell(e.networks.Remove(ctx, name), "network", "destroy", n.ID, n.Name)
}

// Networks lists the bridges by name.
func (e *Engine) Networks(ctx context.Context) ([]Network, error) { return e.networks.Networks(), nil }

// CreateVolume makes a volume, or returns the one that has the name.
func (e *Engine) CreateVolume(ctx context.Context, name string, labels map[string]string) (VolumeInfo, error) {
	v, err := e.volumes.Create(name, labels)
	return v, e.tell(err, "volume", "create", name, name)
}

// RemoveVolume deletes a volume that no container uses, and what is in it.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	for _, c := range e.all() {
		for _, m := range c.Volumes {
			if m.Source == name {
				return fault.Conflict("container %s uses the volume %s", c.Name, name).Try("remove the container first")
			}
		}
	}
	return e.tell(e.volumes.Remove(name), "volume", "destroy", name, name)
}

// Volumes lists all by name.
func (e *Engine) Volumes(ctx context.Context) ([]VolumeInfo, error) { return e.volumes.Volumes() }
