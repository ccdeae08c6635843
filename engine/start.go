package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

// Start runs a container; it returns when its program runs. One that runs already is left alone,
// and one that was made for one run is gone when that does not begin.
func (e *Engine) Start(ctx context.Context, id string) error {
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	ctx = context.WithoutCancel(ctx) // half a start is worse than one that nobody waits for
	err = e.start(ctx, c)
	if err != nil && c.now().Spec.AutoRemove && !c.now().Known {
		err = errors.Join(err, e.remove(ctx, c, RemoveOptions{Volumes: true}))
	}
	return err
}

// start is Start for who holds life.
func (e *Engine) start(ctx context.Context, c *container) error {
	sup, err := e.supervisor(ctx)
	if err != nil {
		return err
	}
	before, err := e.renew(ctx, sup, c)
	if err != nil || before == running {
		return err
	}
	if before == nothing {
		if err := e.prepare(ctx, sup, c); err != nil {
			return err
		}
	}
	if err := e.change(c, func(r *record) { r.Wanted, r.Error = true, "" }); err != nil {
		return err
	}
	if _, err := sup.Start(ctx, c.ID); err != nil {
		return e.undo(ctx, sup, c, err)
	}
	return nil
}

// What sampan-init has of a container before a start.
const (
	nothing  = iota
	prepared // it can be started
	running
)

// renew looks what there is, and forgets the last run.
func (e *Engine) renew(ctx context.Context, sup *supervisor.Client, c *container) (int, error) {
	if !c.now().Known {
		return nothing, nil
	}
	status, err := sup.Status(ctx, c.ID)
	switch {
	case fault.Is(err, fault.KindNotFound):
		return nothing, nil
	case err != nil:
		return nothing, fmt.Errorf("start container %s: %w", c.now().Name, err)
	case active(status.State):
		return running, nil
	case status.State == supervisor.Created:
		return prepared, nil
	}
	if err := sup.Delete(ctx, c.ID, false); err != nil && !fault.Is(err, fault.KindNotFound) {
		return nothing, fmt.Errorf("start container %s again: %w", c.now().Name, err)
	}
	return nothing, nil
}

// prepare gives a container its place and tells sampan-init of it. What fails leaves nothing.
func (e *Engine) prepare(ctx context.Context, sup *supervisor.Client, c *container) error {
	place, err := e.place(ctx, c)
	if err != nil {
		return e.undo(ctx, sup, c, err)
	}
	request, err := e.request(ctx, c.now(), place)
	if err != nil {
		return e.undo(ctx, sup, c, err)
	}
	// Written before sampan-init knows it: after a crash between the two it is found again.
	if err = e.change(c, func(r *record) { r.Known = true }); err == nil {
		err = sup.Create(ctx, request)
	}
	if err != nil {
		return e.undo(ctx, sup, c, err)
	}
	return nil
}

// undo takes back what a failed start did. Why it failed is kept with the container.
func (e *Engine) undo(ctx context.Context, sup *supervisor.Client, c *container, why error) error {
	known := false
	if c.now().Known {
		err := sup.Delete(ctx, c.ID, true)
		known = err != nil && !fault.Is(err, fault.KindNotFound) // otherwise it may never have heard of it
	}
	return errors.Join(why, e.leave(c), e.change(c, func(r *record) {
		r.Error, r.Known, r.Wanted = why.Error(), known, false
	}))
}

// leave gives back what a container has only while it runs.
func (e *Engine) leave(c *container) error {
	errs := []error{e.networks.Leave(c.ID), unmountBelow(e.side(c.ID))}
	for _, m := range c.now().Volumes {
		errs = append(errs, e.idle(m.Source, c.ID))
	}
	return errors.Join(errs...)
}

// idle unmounts the device of a volume that no other running container uses.
func (e *Engine) idle(name, but string) error {
	v, err := e.volumes.Volume(name)
	if err != nil || v.Options["device"] == "" {
		return nil
	}
	for _, r := range e.all() {
		uses := slices.ContainsFunc(r.Volumes, func(m Mount) bool { return m.Source == name })
		if _, up := e.networks.Place(r.ID); r.ID != but && uses && (up || r.Wanted) {
			return nil
		}
	}
	return e.volumes.Release(name)
}

// active says whether a container is in a run or between two.
func active(s supervisor.State) bool {
	return s == supervisor.Running || s == supervisor.Paused || s == supervisor.Restarting
}

// place mounts the root directory and opens the network, at the same time: the kernel takes
// its time for both.
func (e *Engine) place(ctx context.Context, c *container) (network.Place, error) {
	var place network.Place
	joined := make(chan error, 1)
	go func() {
		var err error
		place, err = e.join(ctx, c.now())
		joined <- err
	}()
	err := e.mount(ctx, c)
	return place, errors.Join(err, <-joined)
}

// mount makes the root directory reachable, and the volumes.
func (e *Engine) mount(ctx context.Context, c *container) error {
	c.mu.Lock()
	mounted := c.mounted
	c.mu.Unlock()
	rootfs := filepath.Join(e.home(c.ID), "rootfs")
	if !mounted {
		if _, err := e.store.Mount(ctx, c.ID, c.Chain, e.home(c.ID)); err != nil {
			return err
		}
	}
	for _, m := range c.Volumes {
		v, err := e.volume(m)
		if err == nil {
			err = e.volumes.Use(v)
		}
		if err == nil && !m.NoCopy && !c.now().Filled {
			err = e.volumes.Fill(v, rootfs, m.Target)
		}
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.mounted = true
	c.mu.Unlock()
	if len(c.Volumes) == 0 || c.now().Filled {
		return nil
	}
	return e.change(c, func(r *record) { r.Filled = true })
}

func (e *Engine) join(ctx context.Context, r record) (network.Place, error) {
	if len(r.Spec.Networks) == 0 {
		return network.Place{}, nil // another's, the machine's or none
	}
	if place, ok := e.networks.Place(r.ID); ok {
		return place, nil
	}
	s := network.Sandbox{ID: r.ID, Ports: r.Spec.Ports, DNS: r.Spec.DNS}
	for _, a := range r.Spec.Networks {
		s.Endpoints = append(s.Endpoints, endpointOf(r, a))
	}
	return e.networks.Open(ctx, s)
}

// endpointOf names a container in a network: by its name, its number, its host name and its
// aliases there.
func endpointOf(r record, a Attachment) network.Options {
	o := network.Options{Network: a.Network, IPv4: a.IPv4, IPv6: a.IPv6, MAC: a.MAC, Priority: a.Priority}
	for _, name := range append([]string{r.Name, r.ID[:12], r.Spec.Hostname}, a.Aliases...) {
		if name != "" && !slices.Contains(o.Names, name) {
			o.Names = append(o.Names, name)
		}
	}
	return o
}

// request is a container as sampan-init is told of it.
func (e *Engine) request(ctx context.Context, r record, place network.Place) (supervisor.Request, error) {
	o := spec.Options{
		ID: r.ID, Rootfs: filepath.Join(e.home(r.ID), "rootfs"), ReadOnly: r.Spec.ReadOnly,
		Args: r.Args, Env: r.Env, Cwd: r.WorkDir, User: r.User, Groups: r.Spec.Groups,
		Hostname: hostname(r), Domainname: r.Spec.Domainname, Terminal: r.Spec.TTY, ShmSize: r.Spec.ShmSize, Limits: r.Spec.Limits,
		Privileged: r.Spec.Privileged, NewPrivileges: r.Spec.NewPrivileges, Unmasked: r.Spec.Unmasked,
		CapAdd: r.Spec.CapAdd, CapDrop: r.Spec.CapDrop, Sysctls: r.Spec.Sysctls,
		Devices: r.Spec.Devices, DeviceRules: r.Spec.DeviceRules, Annotations: r.Spec.Annotations,
	}
	if r.Spec.AppArmor != "unconfined" {
		o.AppArmor = r.Spec.AppArmor
	}
	if r.Spec.CgroupParent != "" {
		o.Cgroup = filepath.Join("/", r.Spec.CgroupParent, r.ID)
	}
	if err := e.namespaces(ctx, r, place, &o); err != nil {
		return supervisor.Request{}, err
	}
	if err := e.mounts(r, place, &o); err != nil {
		return supervisor.Request{}, err
	}
	s, err := spec.Build(o)
	if err != nil {
		return supervisor.Request{}, err
	}
	s.Linux.RootfsPropagation = propagation(r.Spec.Mounts)
	request := supervisor.Request{
		ID: r.ID, Spec: s, Stdin: r.Spec.Stdin, Init: r.Spec.Init, StopSignal: r.StopSignal,
		Log:     supervisor.Log{Path: e.logPath(r), Size: r.Spec.Logs.Size, Files: r.Spec.Logs.Files},
		Restart: supervisor.Restart(r.Spec.Restart),
	}
	if r.Health != nil {
		h := supervisor.Health{
			Command: r.Health.Command, Interval: r.Health.Interval, Timeout: r.Health.Timeout,
			StartPeriod: r.Health.StartPeriod, StartInterval: r.Health.StartInterval, Retries: r.Health.Retries,
		}
		request.Health = &h
	}
	request.Seccomp, err = e.seccomp(r.Spec, s.Process.Capabilities.Bounding)
	return request, err
}

// seccomp is the filter of a container's system calls; none when it may do all.
func (e *Engine) seccomp(s Spec, bounding []string) ([]byte, error) {
	switch {
	case s.Seccomp == "unconfined", s.Privileged && s.Seccomp == "":
		return nil, nil
	case s.Seccomp == "", s.Seccomp == "builtin":
		filter, err := e.filters.Program(bounding)
		if err != nil {
			return nil, fmt.Errorf("compile the seccomp profile: %w", err)
		}
		return filter, nil
	}
	return spec.Custom(s.Seccomp, bounding)
}

// logPath is the file of a container's output; empty when it keeps none.
func (e *Engine) logPath(r record) string {
	if r.Spec.Logs.None {
		return ""
	}
	return filepath.Join(e.home(r.ID), "log", "json.log")
}
