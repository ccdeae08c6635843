package volume

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// checkOptions refuses what the local driver does not know.
func checkOptions(options map[string]string) error {
	for name := range options {
		switch name {
		case "type", "device", "o":
		default:
			return fault.Invalid("the driver local has no option %q", name).Try("use type, device and o, as of mount(8)")
		}
	}
	if options["device"] == "" && (options["type"] != "" || options["o"] != "") {
		return fault.Invalid("a volume of the type %q needs a device", options["type"]).Try("add device=…")
	}
	return nil
}

// Use makes the data of a volume reachable at its path: its device is mounted.
func (s *Store) Use(v Volume) error {
	if v.Options["device"] == "" {
		return nil
	}
	unlock := s.lock(v.Name)
	defer unlock()
	if _, err := s.Volume(v.Name); err != nil {
		return err // it was just removed
	}
	there, err := mountinfo.Mounted(v.Path)
	if err != nil || there {
		return err
	}
	m, err := deviceOf(v.Options)
	if err == nil {
		err = m.Mount(v.Path)
	}
	if err != nil {
		return fault.Unavailable("the device of the volume %s cannot be mounted: %w", v.Name, err).
			Try("compare type, device and o with what `mount -t TYPE -o O DEVICE` takes")
	}
	return nil
}

// Release unmounts the device of a volume that nobody uses any more.
func (s *Store) Release(name string) error {
	unlock := s.lock(name)
	defer unlock()
	return s.release(name)
}

func (s *Store) release(name string) error {
	there, err := mountinfo.Mounted(s.data(name))
	if err != nil || !there {
		return err
	}
	if err := mount.UnmountAll(s.data(name), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the device of the volume %s: %w", name, err)
	}
	return nil
}

// deviceOf is what options say. The kernel wants the address of an NFS server, not its name.
func deviceOf(options map[string]string) (mount.Mount, error) {
	m := mount.Mount{Type: options["type"], Source: options["device"]}
	for _, o := range strings.Split(options["o"], ",") {
		if host, ok := strings.CutPrefix(o, "addr="); ok && strings.HasPrefix(m.Type, "nfs") {
			ip, err := resolve(host)
			if err != nil {
				return m, err
			}
			o = "addr=" + ip
		}
		if o != "" {
			m.Options = append(m.Options, o)
		}
	}
	return m, nil
}

func resolve(host string) (string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	all, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", fmt.Errorf("find the server %s: %w", host, err)
	}
	return all[0], nil
}
