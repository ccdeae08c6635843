package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/internal/fault"
)

// mounts are those of the spec, and the files that tell a container its names.
func (e *Engine) mounts(r record, place network.Place, o *spec.Options) error {
	files, err := e.files(r, place)
	if err != nil {
		return err
	}
	o.Mounts = append(o.Mounts, files...)
	for _, m := range r.Spec.Mounts {
		switch m.Type {
		case Bind:
			if err := source(m); err != nil {
				return err
			}
			o.Mounts = append(o.Mounts, bind(m.Source, m.Target, bindOptions(m)...))
		case Tmpfs:
			o.Mounts = append(o.Mounts, tmpfs(m.Target, tmpfsOptions(m)))
		}
	}
	for i, m := range r.Volumes {
		v, err := e.volume(m)
		if err != nil {
			return err
		}
		path := v.Path
		if m.Subpath != "" {
			if path, err = pin(path, m.Subpath, filepath.Join(e.side(r.ID), strconv.Itoa(i))); err != nil {
				return fault.Invalid("%s cannot be mounted from the volume %s: %w", m.Subpath, v.Name, err)
			}
		}
		o.Mounts = append(o.Mounts, bind(path, m.Target, bindOptions(m)...))
	}
	for target, options := range r.Spec.Tmpfs {
		list := []string{"nosuid", "nodev", "noexec"}
		if options != "" {
			list = append(list, strings.Split(options, ",")...)
		}
		o.Mounts = append(o.Mounts, tmpfs(target, list))
	}
	return nil
}

// source makes sure that what a bind shows is there.
func source(m Mount) error {
	_, err := os.Stat(m.Source)
	if errors.Is(err, fs.ErrNotExist) && m.Create {
		err = os.MkdirAll(m.Source, 0o755)
	}
	if err != nil {
		return fault.Invalid("the mount at %s cannot be made: %w", m.Target, err).Try("create %s first", m.Source)
	}
	return nil
}

func tmpfs(target string, options []string) specs.Mount {
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: options}
}

func tmpfsOptions(m Mount) []string {
	options := []string{"nosuid", "nodev"}
	if m.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.Size))
	}
	if m.Mode != 0 {
		options = append(options, fmt.Sprintf("mode=%o", m.Mode.Perm()))
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	return append(options, m.Options...)
}

func bind(source, target string, options ...string) specs.Mount {
	if len(options) == 0 {
		options = []string{"rbind", "rprivate"}
	}
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

func bindOptions(m Mount) []string {
	options := []string{map[bool]string{false: "rbind", true: "bind"}[m.Flat], cmp.Or(m.Propagation, "rprivate")}
	if m.ReadOnly {
		options = append(options, "ro")
		if !m.Flat && readsOnlyBelow() {
			options = append(options, "rro")
		}
	}
	return options
}

// readsOnlyBelow reports whether the kernel makes all that is mounted below read-only, too
// (mount_setattr(2), Linux 5.12).
func readsOnlyBelow() bool {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	return !errors.Is(err, unix.ENOSYS)
}

// propagation is what the root needs so that mounts come and go through binds.
func propagation(mounts []Mount) string {
	all := ""
	for _, m := range mounts {
		switch m.Propagation {
		case "shared", "rshared":
			return "rshared"
		case "slave", "rslave":
			all = "rslave"
		}
	}
	return all
}

// pin mounts what is at sub below root, at a place where no container can put a symbolic link.
func pin(root, sub, at string) (string, error) {
	found, err := openIn(root, sub)
	if err != nil {
		return "", err
	}
	defer found.Close()
	info, err := found.Stat()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return "", err
	}
	if info.IsDir() {
		err = os.Mkdir(at, 0o700)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return at, unix.Mount(fmt.Sprintf("/proc/self/fd/%d", found.Fd()), at, "", unix.MS_BIND|unix.MS_REC, "")
}

// openIn opens what is at a path when root is the root directory; no link leads out of it.
func openIn(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, fmt.Errorf("open %s in %s: %w", path, root, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// unmountBelow unmounts all that is mounted below dir, if there is one.
func unmountBelow(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("list the mounts below %s: %w", dir, err)
	}
	var errs []error
	for _, m := range slices.Backward(list) {
		if err := mount.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
