package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/internal/fault"
)

// namespaces are a container's own, the machine's, or those of another container.
func (e *Engine) namespaces(ctx context.Context, r record, place network.Place, o *spec.Options) (err error) {
	if o.Net, err = e.netOf(ctx, r, place); err != nil {
		return err
	}
	if o.PID, err = e.namespace(ctx, r.Spec.PID, "pid"); err != nil {
		return err
	}
	if o.IPC, err = e.namespace(ctx, r.Spec.IPC, "ipc"); err != nil {
		return err
	}
	o.UTS.Host = r.Spec.UTS == hostMode
	o.Cgroups.Host = r.Spec.Cgroups == hostMode || r.Spec.Cgroups == "" && r.Spec.Privileged
	if o.UTS.Host {
		o.Hostname, o.Domainname = "", ""
	}
	return e.sharedMemory(r, o)
}

const hostMode = "host"

func (e *Engine) netOf(ctx context.Context, r record, place network.Place) (spec.Namespace, error) {
	of, shared := strings.CutPrefix(r.Spec.Network, containerPrefix)
	switch {
	case r.Spec.Network == HostNetwork:
		return spec.Namespace{Host: true}, nil
	case !shared:
		return spec.Namespace{Path: place.NetNS}, nil
	}
	other, err := e.find(of)
	if err != nil {
		return spec.Namespace{}, err
	}
	if other.now().Spec.Network == HostNetwork {
		return spec.Namespace{Host: true}, nil
	}
	return e.namespace(ctx, r.Spec.Network, "net")
}

// namespace is the one of a kind that a mode means.
func (e *Engine) namespace(ctx context.Context, mode, kind string) (spec.Namespace, error) {
	if mode == hostMode {
		return spec.Namespace{Host: true}, nil
	}
	of, shared := strings.CutPrefix(mode, containerPrefix)
	if !shared {
		return spec.Namespace{}, nil
	}
	other, err := e.Container(ctx, of)
	if err != nil {
		return spec.Namespace{}, err
	}
	if other.Pid == 0 {
		return spec.Namespace{}, fault.Conflict("container %s is not running, and its %s namespace was to be shared", other.Name, kind).Try("start it first")
	}
	return spec.Namespace{Path: fmt.Sprintf("/proc/%d/ns/%s", other.Pid, kind)}, nil
}

// side is where what is mounted for a container beside its root directory lies.
func (e *Engine) side(id string) string { return filepath.Join(e.home(id), "mounts") }

// sharedMemory is /dev/shm: a container's own, or the one that goes with its IPC namespace.
func (e *Engine) sharedMemory(r record, o *spec.Options) error {
	from := ""
	switch mode := r.Spec.IPC; {
	case mode == hostMode:
		if _, err := os.Stat("/dev/mqueue"); err == nil { // not every machine mounts it
			o.Mounts = append(o.Mounts, bind("/dev/mqueue", "/dev/mqueue"))
		}
		from = "/dev/shm"
	case mode == "none":
		o.Mounts = append(o.Mounts, specs.Mount{Destination: "/dev/shm", Type: spec.NoMount})
	case mode == "shareable":
		from = filepath.Join(e.side(r.ID), "shm")
		if err := mountShm(from, r.Spec.ShmSize); err != nil {
			return err
		}
	case strings.HasPrefix(mode, containerPrefix):
		other, err := e.find(strings.TrimPrefix(mode, containerPrefix))
		if err != nil {
			return err
		}
		if other.now().Spec.IPC != "shareable" {
			return fault.Conflict("container %s does not share its IPC namespace", other.Name).Try("create it with the IPC mode shareable")
		}
		from = filepath.Join(e.side(other.ID), "shm")
	}
	if from != "" {
		o.Mounts = append(o.Mounts, bind(from, "/dev/shm"))
	}
	return nil
}

func mountShm(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the shared memory: %w", err)
	}
	if size == 0 {
		size = spec.DefaultShm
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", size)); err != nil {
		return fmt.Errorf("mount the shared memory: %w", err)
	}
	return nil
}
