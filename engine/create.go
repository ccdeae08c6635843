package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/moby/sys/signal"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/internal/fault"
)

// Create makes a container of an image that is here. It does not run yet.
func (e *Engine) Create(ctx context.Context, s Spec) (Container, error) {
	i, err := e.images.Image(ctx, s.Image)
	if fault.Is(err, fault.KindNotFound) {
		return Container{}, fault.NotFound("there is no image %s here", s.Image).Try("pull or import it first")
	}
	if err != nil {
		return Container{}, err
	}
	r, err := e.plan(s, i)
	if err != nil {
		return Container{}, err
	}
	c := &container{record: r}
	if err := e.claim(c); err != nil {
		return Container{}, err
	}
	if err := e.settle(c, i); err != nil {
		e.release(c)
		return Container{}, errors.Join(err, os.RemoveAll(e.home(c.ID)))
	}
	e.report(c.record, "create", Created, nil, "")
	return c.record.describe(), nil
}

// plan decides what the image and Docker's defaults leave open.
func (e *Engine) plan(s Spec, i Image) (record, error) {
	r := record{
		ID: newID(), Spec: s, Image: i.ID, Chain: i.Chain, Created: time.Now().UTC(),
		Args: arguments(s, i.Config), Env: image.MergeEnv(i.Config.Env, s.Env),
		WorkDir: cmp.Or(s.WorkDir, i.Config.WorkDir, "/"), User: cmp.Or(s.User, i.Config.User),
		Health: health(s.Health, i.Config.Health),
	}
	r.Name = cmp.Or(s.Name, r.ID[:12])
	r.Spec.Name = r.Name
	r.Spec.Hostname = cmp.Or(s.Hostname, r.ID[:12])
	if !nameRule().MatchString(r.Name) {
		return r, fault.Invalid("a container cannot be named %q", s.Name).
			Try("use letters, digits, dots, dashes and underscores, and begin with a letter or a digit").On("name")
	}
	if len(r.Args) == 0 {
		return r, fault.Invalid("neither the image %s nor you say which command to run", s.Image).Try("give a command")
	}
	stop, err := signalOf(cmp.Or(s.StopSignal, i.Config.StopSignal, "SIGTERM"))
	if err != nil {
		return r, err
	}
	r.StopSignal = int(stop)
	if err := e.network(&r); err != nil {
		return r, err
	}
	switch s.Restart.Policy {
	case "", RestartNo, RestartOnFailure, RestartAlways, RestartUnlessStopped:
	default:
		return r, fault.Invalid("there is no restart policy %q", s.Restart.Policy).Try("use no, on-failure, always or unless-stopped")
	}
	return r, r.mounts(i.Config.Volumes)
}

func nameRule() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`) }

// network writes down which one is meant.
func (e *Engine) network(r *record) error {
	switch r.Spec.Network {
	case HostNetwork, NoNetwork:
		if len(r.Spec.Ports) > 0 {
			return fault.Invalid("a container in the network %s cannot publish ports", r.Spec.Network).Try("leave out the ports or the network")
		}
		return nil
	}
	n, err := e.networks.Network(r.Spec.Network)
	r.Spec.Network = n.Name
	return err
}

// arguments follow Docker: an entrypoint of one's own drops the image's command.
func arguments(s Spec, i ImageConfig) []string {
	entrypoint, command := i.Entrypoint, i.Command
	if s.Entrypoint != nil {
		entrypoint, command = s.Entrypoint, nil
	}
	if s.Command != nil {
		command = s.Command
	}
	return append(slices.Clone(entrypoint), command...)
}

// health takes the image's check where the spec has none, in the form that is run.
func health(own, image *Health) *Health {
	h := cmp.Or(own, image)
	if h == nil || len(h.Command) == 0 || h.Command[0] == "NONE" {
		return nil
	}
	out := *h
	switch h.Command[0] {
	case "CMD":
		out.Command = h.Command[1:]
	case "CMD-SHELL":
		out.Command = append([]string{"/bin/sh", "-c"}, h.Command[1:]...)
	}
	return &out
}

func signalOf(name string) (syscall.Signal, error) {
	s, err := signal.ParseSignal(name)
	if err != nil {
		return 0, fault.Invalid("there is no signal %q", name).Try("use a name as SIGTERM or a number")
	}
	return s, nil
}

// mounts checks those of the spec and adds a volume for each path that the image wants kept.
func (r *record) mounts(wanted []string) error {
	taken := map[string]bool{}
	for target := range r.Spec.Tmpfs {
		taken[path.Clean(target)] = true
	}
	for _, m := range r.Spec.Mounts {
		target := path.Clean(m.Target)
		if !path.IsAbs(target) || target == "/" {
			return fault.Invalid("%q is no place for a mount", m.Target).Try("use an absolute path below /")
		}
		if taken[target] {
			return fault.Invalid("two mounts are at %s", target)
		}
		taken[target] = true
		switch m.Type {
		case Bind:
			if !filepath.IsAbs(m.Source) {
				return fault.Invalid("the source of the mount at %s is not an absolute path", target)
			}
		case Tmpfs:
		case Volume:
			if m.Source == "" {
				m.Source = newID()
				r.Anonymous = append(r.Anonymous, m.Source)
			}
			r.Volumes = append(r.Volumes, m)
		default:
			return fault.Invalid("there is no type of mount %q", m.Type).Try("use bind, volume or tmpfs")
		}
	}
	for _, target := range wanted {
		if taken[path.Clean(target)] || !path.IsAbs(target) {
			continue
		}
		m := Mount{Type: Volume, Source: newID(), Target: path.Clean(target)}
		r.Anonymous, r.Volumes = append(r.Anonymous, m.Source), append(r.Volumes, m)
	}
	return nil
}

// settle makes the directory, the volumes and the record.
func (e *Engine) settle(c *container, i Image) error {
	if err := os.MkdirAll(filepath.Join(e.home(c.ID), "log"), 0o711); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return fault.Full("there is no room on the disk for a container").Try("remove images and containers that nobody needs")
		}
		return fmt.Errorf("make the directory of container %s: %w", c.Name, err)
	}
	for _, m := range c.Volumes {
		if _, err := e.volumes.Create(m.Source, nil); err != nil {
			return err
		}
	}
	return e.write(c.record)
}

// describe is a container that sampan-init does not know.
func (r record) describe() Container {
	return Container{
		ID: r.ID, Name: r.Name, Spec: r.Spec, Image: r.Image, State: Created, Created: r.Created, Error: r.Error,
	}
}
