package container

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// A choice is which containers a list shall have.
type choice struct {
	filters  api.Filters
	all      bool // those that do not run, too
	before   time.Time
	since    time.Time
	images   map[string]bool   // IDs
	networks map[string]string // name → ID
	expose   map[string]bool
	publish  map[string]bool
}

// choose reads the filters of a list.
func (s *Service) choose(ctx context.Context, f api.Filters, all []engine.Container) (*choice, error) {
	if err := f.Check("ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label",
		"label!", "name", "network", "publish", "since", "status", "volume"); err != nil {
		return nil, err
	}
	if err := checkValues(f); err != nil {
		return nil, err
	}
	ch := &choice{filters: f, all: f.Has("status"), images: map[string]bool{}, networks: map[string]string{}}
	var err error
	if ch.before, err = s.created(ctx, f, "before"); err != nil {
		return nil, err
	}
	if ch.since, err = s.created(ctx, f, "since"); err != nil {
		return nil, err
	}
	if ch.expose, err = portSet(f, "expose"); err != nil {
		return nil, err
	}
	if ch.publish, err = portSet(f, "publish"); err != nil {
		return nil, err
	}
	if f.Has("ancestor") {
		if err := s.descendants(ctx, ch, all); err != nil {
			return nil, err
		}
	}
	if f.Has("network") {
		list, err := s.engine.Networks(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			ch.networks[n.Name] = n.ID
		}
	}
	return ch, nil
}

func checkValues(f api.Filters) error {
	for _, v := range f.Get("exited") {
		if _, err := strconv.Atoi(v); err != nil {
			return fault.Invalid("invalid filter 'exited=%s'", v)
		}
	}
	for _, v := range f.Get("status") {
		if err := container.ValidateContainerState(container.ContainerState(v)); err != nil {
			return fault.Invalid("invalid filter 'status=%s': %w", v, err)
		}
	}
	for _, v := range f.Get("health") {
		if err := container.ValidateHealthStatus(container.HealthStatus(v)); err != nil {
			return fault.Invalid("invalid filter 'health=%s': %w", v, err)
		}
	}
	_, err := f.Bool("is-task", false)
	return err
}

// created is when the container was made that a filter names.
func (s *Service) created(ctx context.Context, f api.Filters, key string) (t time.Time, err error) {
	for _, id := range f.Get(key) {
		c, err := s.findID(ctx, id)
		if err != nil {
			return t, err
		}
		t = c.Created
	}
	return t, nil
}

func portSet(f api.Filters, key string) (map[string]bool, error) {
	set := map[string]bool{}
	for _, v := range f.Get(key) {
		r, err := network.ParsePortRange(v)
		if err != nil || strings.Contains(v, ":") {
			return nil, fault.Invalid("invalid filter '%s=%s'", key, v)
		}
		for p := range r.All() {
			set[p.String()] = true
		}
	}
	return set, nil
}

// descendants are the images that are meant, and those of containers that begin with all of
// their layers.
func (s *Service) descendants(ctx context.Context, ch *choice, all []engine.Container) error {
	var layers [][]string
	for _, ref := range ch.filters.Get("ancestor") {
		i, err := s.engine.Image(ctx, ref)
		if fault.Is(err, fault.KindNotFound) {
			continue // no container is made from it
		}
		if err != nil {
			return err
		}
		ch.images[i.ID] = true
		if len(i.Layers) > 0 {
			layers = append(layers, i.Layers)
		}
	}
	seen := map[string]bool{}
	for _, c := range all {
		if seen[c.Image] || len(layers) == 0 {
			continue
		}
		seen[c.Image] = true
		i, err := s.engine.Image(ctx, c.Image)
		if err != nil {
			continue // it has lost its names
		}
		if slices.ContainsFunc(layers, func(l []string) bool { return len(i.Layers) >= len(l) && slices.Equal(i.Layers[:len(l)], l) }) {
			ch.images[c.Image] = true
		}
	}
	return nil
}

// takes reports whether a container is one of the list.
func (ch *choice) takes(c engine.Container, q request) bool {
	f := ch.filters
	switch {
	case !ch.all && !running(c),
		!ch.before.IsZero() && !c.Created.Before(ch.before),
		!ch.since.IsZero() && !c.Created.After(ch.since),
		!f.MatchPattern("name", c.Name) && !f.MatchPattern("name", "/"+c.Name),
		!f.MatchPrefix("id", c.ID),
		!f.Match("status", string(c.State)),
		!f.Match("health", string(healthStatus(c))),
		!f.MatchLabels(q.Config.Labels),
		!(api.Filters{"label": f["annotation"]}).MatchLabels(q.HostConfig.Annotations),
		f.Has("ancestor") && !ch.images[c.Image]:
		return false
	}
	if task, _ := f.Bool("is-task", false); task {
		return false // there is no swarm
	}
	return ch.exited(c) && ch.mounted(c) && ch.connected(c, q) && ch.reached(c, q)
}

func (ch *choice) exited(c engine.Container) bool {
	if !ch.filters.Has("exited") {
		return true
	}
	return !running(c) && !c.Started.IsZero() && ch.filters.Match("exited", strconv.Itoa(c.Exit.Code))
}

func (ch *choice) mounted(c engine.Container) bool {
	if !ch.filters.Has("volume") {
		return true
	}
	for _, m := range slices.Concat(c.Spec.Mounts, c.Volumes) {
		if ch.filters.MatchAny("volume", m.Source, m.Target) {
			return true
		}
	}
	return false
}

func (ch *choice) connected(c engine.Container, q request) bool {
	if !ch.filters.Has("network") {
		return true
	}
	names := []string{string(q.HostConfig.NetworkMode)}
	for _, a := range c.Spec.Networks {
		names = append(names, a.Network)
	}
	for _, name := range names {
		if id := ch.networks[name]; ch.filters.Match("network", name) || id != "" && ch.filters.MatchPrefix("network", id) {
			return true
		}
	}
	return false
}

func (ch *choice) reached(c engine.Container, q request) bool {
	if len(ch.expose)+len(ch.publish) == 0 {
		return true
	}
	return slices.ContainsFunc(portList(c, q), func(p container.PortSummary) bool {
		port := "/" + p.Type
		return ch.publish[strconv.Itoa(int(p.PublicPort))+port] || ch.expose[strconv.Itoa(int(p.PrivatePort))+port]
	})
}
