package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/engine/internal/dns"
	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/volume"
	"sampan.dev/sampan/internal/fault"
)

// Start runs a container; it returns when its program runs. One that runs already is left alone.
func (e *Engine) Start(ctx context.Context, id string) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
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
		return nothing, fmt.Errorf("start container %s: %w", c.Name, err)
	case active(status.State):
		return running, nil
	case status.State == supervisor.Created:
		return prepared, nil
	}
	if err := sup.Delete(ctx, c.ID, false); err != nil && !fault.Is(err, fault.KindNotFound) {
		return nothing, fmt.Errorf("start container %s again: %w", c.Name, err)
	}
	return nothing, nil
}

// prepare gives a container its place and tells sampan-init of it. What fails leaves nothing.
func (e *Engine) prepare(ctx context.Context, sup *supervisor.Client, c *container) error {
	place, err := e.place(ctx, c)
	if err != nil {
		return e.undo(ctx, sup, c, err)
	}
	request, err := e.request(c.now(), place)
	if err != nil {
		return e.undo(ctx, sup, c, err)
	}
	// Written before sampan-init knows it: after a crash between the two it is found again.
	err = e.change(c, func(r *record) {
		r.Known = true
		if len(place.Ports) > 0 {
			r.Spec.Ports = place.Ports
		}
	})
	if err == nil {
		err = sup.Create(ctx, request)
	}
	if err != nil {
		return e.undo(ctx, sup, c, err)
	}
	return nil
}

// undo takes back what a failed start did. Why it failed is kept with the container.
func (e *Engine) undo(ctx context.Context, sup *supervisor.Client, c *container, why error) error {
	if c.now().Known {
		_ = sup.Delete(context.WithoutCancel(ctx), c.ID, true) // it may never have heard of it
	}
	return errors.Join(why, e.networks.Leave(c.ID), e.change(c, func(r *record) {
		r.Error, r.Known, r.Wanted = why.Error(), false, false
	}))
}

// active says whether a container is in a run or between two.
func active(s supervisor.State) bool {
	return s == supervisor.Running || s == supervisor.Paused || s == supervisor.Restarting
}

// place mounts the root directory and joins the network, at the same time: the kernel
// takes its time for both.
func (e *Engine) place(ctx context.Context, c *container) (network.Endpoint, error) {
	var place network.Endpoint
	joined := make(chan error, 1)
	go func() {
		var err error
		place, err = e.join(ctx, c.now())
		joined <- err
	}()
	err := e.mount(ctx, c)
	return place, errors.Join(err, <-joined)
}

func (e *Engine) mount(ctx context.Context, c *container) error {
	c.mu.Lock()
	mounted := c.mounted
	c.mu.Unlock()
	if mounted {
		return nil
	}
	rootfs, err := e.store.Mount(ctx, c.ID, c.Chain, e.home(c.ID))
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.mounted = true
	c.mu.Unlock()
	for _, m := range c.Volumes {
		if m.NoCopy {
			continue
		}
		v, err := e.volumes.Create(m.Source, nil)
		if err == nil {
			err = volume.Fill(v, rootfs, m.Target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) join(ctx context.Context, r record) (network.Endpoint, error) {
	switch r.Spec.Network {
	case HostNetwork, NoNetwork:
		return network.Endpoint{}, nil
	}
	if place, ok := e.networks.Endpoint(r.ID); ok {
		return place, nil
	}
	names := append([]string{r.Name, r.ID[:12], r.Spec.Hostname}, r.Spec.Aliases...)
	slices.Sort(names)
	return e.networks.Join(ctx, network.Options{
		ID: r.ID, Network: r.Spec.Network, Names: slices.Compact(names), Ports: r.Spec.Ports, DNS: r.Spec.DNS,
	})
}

// request is a container as sampan-init is told of it.
func (e *Engine) request(r record, place network.Endpoint) (supervisor.Request, error) {
	mounts, err := e.mounts(r, place)
	if err != nil {
		return supervisor.Request{}, err
	}
	s, err := spec.Build(spec.Options{
		ID: r.ID, Rootfs: filepath.Join(e.home(r.ID), "rootfs"), ReadOnly: r.Spec.ReadOnly,
		Args: r.Args, Env: r.Env, Cwd: r.WorkDir, User: r.User, Hostname: hostname(r), Terminal: r.Spec.TTY,
		Mounts: mounts, NetNS: place.NetNS, HostNet: r.Spec.Network == HostNetwork,
		Limits: spec.Limits{
			Memory: r.Spec.Limits.Memory, Swap: r.Spec.Limits.Swap, CPUs: r.Spec.Limits.CPUs,
			CPUShares: r.Spec.Limits.CPUShares, CPUSet: r.Spec.Limits.CPUSet, Pids: r.Spec.Limits.Pids,
		},
		Privileged: r.Spec.Privileged, CapAdd: r.Spec.CapAdd, CapDrop: r.Spec.CapDrop, Sysctls: r.Spec.Sysctls,
	})
	if err != nil {
		return supervisor.Request{}, err
	}
	request := supervisor.Request{
		ID: r.ID, Spec: s, Stdin: r.Spec.Stdin, StopSignal: r.StopSignal,
		Log:     supervisor.Log{Path: e.logPath(r.ID), Size: r.Spec.Logs.Size, Files: r.Spec.Logs.Files},
		Restart: supervisor.Restart(r.Spec.Restart),
	}
	if r.Health != nil {
		h := supervisor.Health(*r.Health)
		request.Health = &h
	}
	if !r.Spec.Privileged {
		if request.Seccomp, err = e.filters.Program(s.Process.Capabilities.Bounding); err != nil {
			return supervisor.Request{}, fmt.Errorf("compile the seccomp profile: %w", err)
		}
	}
	return request, nil
}

func (e *Engine) logPath(id string) string { return filepath.Join(e.home(id), "log", "json.log") }

// mounts are those of the spec, and the files that tell a container its names.
func (e *Engine) mounts(r record, place network.Endpoint) ([]specs.Mount, error) {
	all, err := e.files(r, place)
	if err != nil {
		return nil, err
	}
	for _, m := range r.Spec.Mounts {
		switch m.Type {
		case Bind:
			if _, err := os.Stat(m.Source); err != nil {
				return nil, fault.Invalid("the mount at %s cannot be made: %w", m.Target, err).Try("create %s first", m.Source)
			}
			all = append(all, bind(m.Source, m.Target, m.ReadOnly))
		case Tmpfs:
			options := []string{"nosuid", "nodev"}
			if m.Size > 0 {
				options = append(options, fmt.Sprintf("size=%d", m.Size))
			}
			if m.ReadOnly {
				options = append(options, "ro")
			}
			all = append(all, specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options})
		}
	}
	for _, m := range r.Volumes {
		v, err := e.volumes.Create(m.Source, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, bind(v.Path, m.Target, m.ReadOnly))
	}
	for target, options := range r.Spec.Tmpfs {
		list := []string{"nosuid", "nodev", "noexec"}
		if options != "" {
			list = append(list, strings.Split(options, ",")...)
		}
		all = append(all, specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: list})
	}
	return all, nil
}

func bind(source, target string, readOnly bool) specs.Mount {
	options := []string{"rbind", "rprivate"}
	if readOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

// hostname is the machine's own where the container shares its network.
func hostname(r record) string {
	if r.Spec.Network != HostNetwork {
		return r.Spec.Hostname
	}
	name, err := os.Hostname()
	return cmp.Or(name, map[bool]string{true: r.Spec.Hostname}[err != nil])
}

// files writes /etc/hosts, /etc/hostname and /etc/resolv.conf, and mounts them.
func (e *Engine) files(r record, place network.Endpoint) ([]specs.Mount, error) {
	name := hostname(r)
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	resolv := ""
	switch {
	case place.NetNS != "":
		hosts += fmt.Sprintf("%s\t%s\n", place.IP, name)
		resolv = "nameserver " + dns.Address + "\n"
		if search := e.networks.Search(); len(search) > 0 {
			resolv += "search " + strings.Join(search, " ") + "\n"
		}
		resolv += "options ndots:0\n"
	case r.Spec.Network == HostNetwork:
		raw, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the machine's name servers: %w", err)
		}
		resolv = string(raw)
	}
	var all []specs.Mount
	for file, text := range map[string]string{"hosts": hosts, "hostname": name + "\n", "resolv.conf": resolv} {
		path := filepath.Join(e.home(r.ID), file)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("write /etc/%s of container %s: %w", file, r.Name, err)
		}
		all = append(all, bind(path, "/etc/"+file, false))
	}
	return all, nil
}
