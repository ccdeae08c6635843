package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	c := newContainer(r)
	if err := e.claim(c); err != nil {
		return Container{}, err
	}
	if err := e.settle(c, i); err != nil {
		e.release(c)
		return Container{}, errors.Join(err, os.RemoveAll(e.home(c.ID)))
	}
	e.report(c.record, "create", Created)
	return e.describe(c.record), nil
}

// plan decides what the image and Docker's defaults leave open.
func (e *Engine) plan(s Spec, i Image) (record, error) {
	r := record{
		ID: newID(), Spec: s, Image: i.ID, Digest: i.Digest, Chain: i.Chain, Created: time.Now().UTC(),
		Args: arguments(s, i.Config), Env: image.MergeEnv(i.Config.Env, s.Env),
		WorkDir: cmp.Or(s.WorkDir, i.Config.WorkDir, "/"), User: cmp.Or(s.User, i.Config.User),
		Health: health(s.Health, i.Config.Health),
	}
	r.Name = cmp.Or(s.Name, r.ID[:12])
	r.Spec.Name = r.Name
	r.Spec.Hostname = cmp.Or(s.Hostname, r.ID[:12])
	if !nameRule().MatchString(r.Name) {
		return r, errName(s.Name)
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
	if err := e.shares(&r); err != nil {
		return r, err
	}
	if err := checkRestart(s.Restart); err != nil {
		return r, err
	}
	if s.AutoRemove && r.lasting() {
		return r, fault.Invalid("a container that is restarted cannot be removed at its end").Try("leave out one of the two")
	}
	return r, r.mounts(i.Config.Volumes)
}

func checkRestart(r Restart) error {
	switch r.Policy {
	case RestartOnFailure:
	case "", RestartNo, RestartAlways, RestartUnlessStopped:
		if r.Max != 0 {
			return fault.Invalid("the restart policy %q does not count its tries", r.Policy).Try("use on-failure, or leave the number out")
		}
	default:
		return fault.Invalid("there is no restart policy %q", r.Policy).Try("use no, on-failure, always or unless-stopped")
	}
	if r.Max < 0 {
		return fault.Invalid("a container cannot be restarted %d times", r.Max)
	}
	return nil
}

func nameRule() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`) }

func errName(name string) error {
	return fault.Invalid("a container cannot be named %q", name).
		Try("use letters, digits, dots, dashes and underscores, and begin with a letter or a digit").On("name")
}

// network writes down which ones are meant.
func (e *Engine) network(r *record) error {
	mode := r.Spec.Network
	if of, ok := strings.CutPrefix(mode, containerPrefix); ok {
		if len(r.Spec.Ports)+len(r.Spec.Networks) > 0 {
			return fault.Invalid("a container that shares another one's network cannot publish ports or be in further networks").
				Try("publish the ports of the other container")
		}
		other, err := e.find(of)
		if err != nil {
			return err
		}
		r.Spec.Network = containerPrefix + other.ID
		return nil
	}
	switch mode {
	case HostNetwork, NoNetwork:
		if len(r.Spec.Ports) > 0 {
			return fault.Invalid("a container in the network %s cannot publish ports", mode).Try("leave out the ports or the network")
		}
		r.Spec.Networks = nil
		return nil
	}
	n, err := e.networks.Network(mode)
	if err != nil {
		return err
	}
	r.Spec.Network = n.Name
	var list []Attachment
	for _, a := range r.Spec.Networks {
		other, err := e.networks.Network(a.Network)
		if err != nil {
			return err
		}
		a.Network = other.Name
		if slices.ContainsFunc(list, func(b Attachment) bool { return b.Network == a.Network }) {
			return fault.Invalid("the network %s is named twice", a.Network)
		}
		list = append(list, a)
	}
	if !slices.ContainsFunc(list, func(a Attachment) bool { return a.Network == n.Name }) {
		list = append([]Attachment{{Network: n.Name}}, list...)
	}
	r.Spec.Networks = list
	for _, h := range r.Spec.Hosts {
		if name, ip, ok := strings.Cut(h, ":"); !ok || name == "" || !isAddress(ip) {
			return fault.Invalid("%q is not a line for /etc/hosts", h).Try("write NAME:IP")
		}
	}
	return nil
}

// hostGateway stands for the address by which a container reaches the machine.
const hostGateway = "host-gateway"

func isAddress(ip string) bool {
	_, err := netip.ParseAddr(ip)
	return err == nil || ip == hostGateway
}

const containerPrefix = "container:"

// shares finds the containers whose namespaces are to be shared.
func (e *Engine) shares(r *record) error {
	for _, n := range []struct {
		what string
		mode *string
		also []string
	}{
		{"PID", &r.Spec.PID, []string{"", "host"}}, {"UTS", &r.Spec.UTS, []string{"", "host"}}, {"cgroup", &r.Spec.Cgroups, []string{"", "host", "private"}},
		{"IPC", &r.Spec.IPC, []string{"", "host", "private", "shareable", "none"}},
	} {
		if of, ok := strings.CutPrefix(*n.mode, containerPrefix); ok && n.what != "UTS" && n.what != "cgroup" {
			other, err := e.find(of)
			if err != nil {
				return err
			}
			*n.mode = containerPrefix + other.ID
			continue
		}
		if !slices.Contains(n.also, *n.mode) {
			return fault.Invalid("there is no mode %q of the %s namespace", *n.mode, n.what)
		}
	}
	return nil
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

// health takes the image's check where the spec has none, in the form that is run. What the spec
// leaves open of the image's check is the image's word.
func health(own, image *Health) *Health {
	h := own
	switch {
	case own == nil:
		h = image
	case len(own.Command) == 0 && image != nil:
		merged := *own
		merged.Command = image.Command
		merged.Interval, merged.Timeout = cmp.Or(own.Interval, image.Interval), cmp.Or(own.Timeout, image.Timeout)
		merged.StartPeriod, merged.StartInterval = cmp.Or(own.StartPeriod, image.StartPeriod), cmp.Or(own.StartInterval, image.StartInterval)
		merged.Retries = cmp.Or(own.Retries, image.Retries)
		h = &merged
	}
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
		m.Target = path.Clean(m.Target)
		if !path.IsAbs(m.Target) || m.Target == "/" {
			return fault.Invalid("%q is no place for a mount", m.Target).Try("use an absolute path below /")
		}
		if taken[m.Target] {
			return fault.Invalid("two mounts are at %s", m.Target)
		}
		taken[m.Target] = true
		switch m.Type {
		case Bind:
			if !filepath.IsAbs(m.Source) {
				return fault.Invalid("the source of the mount at %s is not an absolute path", m.Target)
			}
		case Tmpfs:
		case Volume:
			if m.Source == "" {
				m.Source, m.Anonymous = newID(), true
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
		r.Volumes = append(r.Volumes, Mount{Type: Volume, Source: newID(), Target: path.Clean(target), Anonymous: true})
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
		if _, err := e.volume(m); err != nil {
			return err
		}
	}
	return e.write(c.record)
}

// volume finds the one of a mount, or makes it.
func (e *Engine) volume(m Mount) (VolumeInfo, error) {
	return e.volumes.Create(VolumeSpec{Name: m.Source, Driver: m.Driver, Options: m.DriverOpts, Labels: m.Labels, Anonymous: m.Anonymous})
}
