package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// mounts gathers those of other containers, of -v, of --mount, and volumes without a name. Of two
// at one place the later one wins where they come from different sources.
func (s *Service) mounts(ctx context.Context, q *request, out *engine.Spec) error {
	for _, from := range q.HostConfig.VolumesFrom {
		list, err := s.mountsFrom(ctx, from)
		if err != nil {
			return err
		}
		for _, m := range list {
			out.Mounts = put(out.Mounts, m)
		}
	}
	taken := map[string]bool{}
	add := func(m engine.Mount) error {
		if taken[m.Target] {
			return fault.Invalid("Duplicate mount point: %s", m.Target)
		}
		taken[m.Target] = true
		out.Mounts = put(out.Mounts, m)
		return nil
	}
	for _, text := range q.HostConfig.Binds {
		b, err := parseBind(text, q.HostConfig.VolumeDriver)
		if err == nil {
			err = add(b.Mount)
		}
		if err != nil {
			return err
		}
	}
	for _, m := range q.HostConfig.Mounts {
		em, err := mountOf(m)
		if err == nil {
			err = add(em)
		}
		if err != nil {
			return err
		}
	}
	return q.anonymous(out)
}

// anonymous adds the volumes that nobody named, where nothing else is mounted.
func (q *request) anonymous(out *engine.Spec) error {
	for target := range q.Config.Volumes {
		target = path.Clean(target)
		if !path.IsAbs(target) || target == "/" {
			return fault.Invalid("invalid volume specification: '%s': destination can't be '/' and must be absolute", target)
		}
		if _, ok := q.HostConfig.Tmpfs[target]; ok || at(out.Mounts, target) >= 0 {
			continue
		}
		out.Mounts = append(out.Mounts, engine.Mount{Type: engine.Volume, Target: target, Driver: q.HostConfig.VolumeDriver})
	}
	slices.SortStableFunc(out.Mounts, func(a, b engine.Mount) int { return strings.Compare(a.Target, b.Target) })
	return nil
}

func at(mounts []engine.Mount, target string) int {
	return slices.IndexFunc(mounts, func(m engine.Mount) bool { return m.Target == target })
}

func put(mounts []engine.Mount, m engine.Mount) []engine.Mount {
	if i := at(mounts, m.Target); i >= 0 {
		mounts[i] = m
		return mounts
	}
	return append(mounts, m)
}

// mountsFrom are those of another container, as in CONTAINER:ro.
func (s *Service) mountsFrom(ctx context.Context, text string) ([]engine.Mount, error) {
	id, mode, _ := strings.Cut(text, ":")
	var o bindOptions
	if err := o.parse(mode); err != nil || o.propagation != "" || o.copySet {
		return nil, fault.Invalid("invalid mode for volumes-from: %s", mode)
	}
	c, err := s.findID(ctx, id)
	if err != nil {
		return nil, err
	}
	var list []engine.Mount
	for _, m := range c.Spec.Mounts {
		if m.Type != engine.Volume {
			list = append(list, m)
		}
	}
	for _, m := range c.Volumes {
		m.Anonymous = false // it goes with the other container
		list = append(list, m)
	}
	for i := range list {
		list[i].ReadOnly = list[i].ReadOnly || o.readOnly
	}
	return list, nil
}

// A bind is what -v says: SOURCE:TARGET:OPTIONS, or a target alone.
type bind struct {
	engine.Mount
	mode string // the options as they came
}

func parseBind(text, driver string) (bind, error) {
	wrong := fault.Invalid("invalid volume specification: '%s'", text)
	parts := strings.Split(text, ":")
	if parts[0] == "" || len(parts) > 3 {
		return bind{}, wrong
	}
	var o bindOptions
	b := bind{Mount: engine.Mount{Type: engine.Volume, Driver: driver}}
	switch len(parts) {
	case 1:
		b.Target = parts[0]
	case 2:
		b.Source, b.Target = parts[0], parts[1]
		if new(bindOptions).parse(parts[1]) == nil {
			return bind{}, wrong // a volume without a name has no options
		}
	case 3:
		b.Source, b.Target, b.mode = parts[0], parts[1], parts[2]
		if err := o.parse(b.mode); err != nil {
			return bind{}, err
		}
	}
	b.ReadOnly, b.Propagation, b.NoCopy = o.readOnly, o.propagation, o.noCopy
	if path.IsAbs(b.Source) {
		b.Type, b.Driver, b.Create, b.Source = engine.Bind, "", true, path.Clean(b.Source)
	} else if b.Propagation != "" {
		return bind{}, fault.Invalid("invalid volume specification: '%s': a volume has no propagation", text)
	}
	if err := checkVolumeName(b.Mount); err != nil {
		return bind{}, err
	}
	if !path.IsAbs(b.Target) || path.Clean(b.Target) == "/" {
		return bind{}, fault.Invalid("invalid volume specification: '%s': invalid mount config for type %q: invalid specification: destination can't be '/' and must be absolute", text, b.Type)
	}
	b.Target = path.Clean(b.Target)
	return b, nil
}

func checkVolumeName(m engine.Mount) error {
	if m.Type == engine.Volume && strings.ContainsAny(m.Source, "/\\ ") {
		return fault.Invalid("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", m.Source, m.Source)
	}
	return nil
}

// bindOptions are those after the second colon.
type bindOptions struct {
	readOnly, noCopy, copySet bool
	propagation               string
}

func (o *bindOptions) parse(mode string) error {
	if mode == "" {
		return nil
	}
	seen := map[string]bool{}
	for option := range strings.SplitSeq(mode, ",") {
		kind := option
		switch option {
		case "ro", "rw":
			kind, o.readOnly = "access", option == "ro"
		case "z", "Z":
			kind = "label"
		case "nocopy":
			kind, o.noCopy, o.copySet = "copy", true, true
		case "consistent", "cached", "delegated", "default":
			kind = "consistency"
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			kind, o.propagation = "propagation", option
		default:
			return fault.Invalid("invalid mode: %s", mode)
		}
		if seen[kind] {
			return fault.Invalid("invalid mode: %s", mode)
		}
		seen[kind] = true
	}
	return nil
}

// mountOf is what --mount says.
func mountOf(m mount.Mount) (engine.Mount, error) {
	out := engine.Mount{Type: string(m.Type), Source: m.Source, Target: path.Clean(m.Target), ReadOnly: m.ReadOnly}
	if err := exclusive(m); err != nil {
		return out, errMount(m, "%w", err)
	}
	switch {
	case m.Target == "":
		return out, errMount(m, "field Target must not be empty")
	case out.Target == "/":
		return out, errMount(m, "invalid specification: destination can't be '/'")
	case !path.IsAbs(out.Target):
		return out, errMount(m, "invalid mount path: '%s' mount path must be absolute", m.Target)
	}
	switch m.Type {
	case mount.TypeBind:
		return out, bindMount(m, &out)
	case mount.TypeVolume:
		return out, volumeMount(m, &out)
	case mount.TypeTmpfs:
		return out, tmpfsMount(m, &out)
	case mount.TypeImage:
		return out, errMount(m, "mounts of images are not supported by this engine")
	}
	return out, errMount(m, "mount type unknown")
}

// exclusive refuses options of other types.
func exclusive(m mount.Mount) error {
	switch {
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return fmt.Errorf("field BindOptions must not be specified")
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return fmt.Errorf("field VolumeOptions must not be specified")
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return fmt.Errorf("field TmpfsOptions must not be specified")
	case m.ImageOptions != nil && m.Type != mount.TypeImage:
		return fmt.Errorf("field ImageOptions must not be specified")
	}
	return nil
}

func errMount(m mount.Mount, format string, args ...any) error {
	return fault.Invalid("invalid mount config for type %q: %w", m.Type, fmt.Errorf(format, args...))
}

func bindMount(m mount.Mount, out *engine.Mount) error {
	switch {
	case m.Source == "":
		return errMount(m, "field Source must not be empty")
	case !path.IsAbs(m.Source):
		return errMount(m, "invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	out.Source = path.Clean(m.Source)
	if o := m.BindOptions; o != nil {
		if o.Propagation != "" && !slices.Contains(mount.Propagations, o.Propagation) {
			return errMount(m, "invalid propagation mode: %s", o.Propagation)
		}
		out.Propagation, out.Flat, out.Create = string(o.Propagation), o.NonRecursive, o.CreateMountpoint
	}
	if _, err := os.Stat(out.Source); errors.Is(err, fs.ErrNotExist) && !out.Create {
		return errMount(m, "bind source path does not exist: %s", out.Source)
	}
	return nil
}

func volumeMount(m mount.Mount, out *engine.Mount) error {
	if err := checkVolumeName(*out); err != nil {
		return err
	}
	o := m.VolumeOptions
	if o == nil {
		return nil
	}
	switch {
	case o.Subpath != "" && m.Source == "":
		return errMount(m, "must not set Subpath when using anonymous volumes")
	case o.Subpath != "" && !filepath.IsLocal(o.Subpath):
		return errMount(m, "subpath must be a relative path within the volume")
	}
	out.NoCopy, out.Labels, out.Subpath = o.NoCopy, o.Labels, o.Subpath
	if o.DriverConfig != nil {
		out.Driver, out.DriverOpts = o.DriverConfig.Name, o.DriverConfig.Options
	}
	return nil
}

func tmpfsMount(m mount.Mount, out *engine.Mount) error {
	if m.Source != "" {
		return errMount(m, "field Source must not be specified")
	}
	o := m.TmpfsOptions
	if o == nil {
		return nil
	}
	out.Size, out.Mode = o.SizeBytes, o.Mode
	for _, option := range o.Options {
		if len(option) != 1 || option[0] != "exec" && option[0] != "noexec" {
			return errMount(m, "invalid option: %s", strings.Join(option, "="))
		}
		out.Options = append(out.Options, option[0])
	}
	return nil
}
