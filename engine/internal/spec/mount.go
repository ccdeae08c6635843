package spec

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultShm is the size of /dev/shm where nothing else is asked for.
const DefaultShm = 64 << 20

// defaultMounts are Docker's.
func defaultMounts(o Options) []specs.Mount {
	shm := cmp.Or(o.ShmSize, DefaultShm)
	access := "ro"
	if o.Privileged {
		access = "rw"
	}
	secure := []string{"nosuid", "noexec", "nodev"}
	with := func(more ...string) []string { return append(slices.Clone(secure), more...) }
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: secure},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: with(access)},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: with(access)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: secure},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: with("mode=1777", fmt.Sprintf("size=%d", shm))},
	}
	if o.Net.Host && !o.Privileged {
		// A sysfs of its own would show the host's network devices as the container's.
		mounts[3] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: with("rbind", "ro")}
	}
	return mounts
}

// mountsOf puts parents before what lies in them.
func mountsOf(o Options) ([]specs.Mount, error) {
	all := defaultMounts(o)
	for _, m := range o.Mounts {
		m.Destination = filepath.Clean(m.Destination)
		if !filepath.IsAbs(m.Destination) || m.Destination == "/" {
			return nil, errMount(m, "its place must be an absolute path below /")
		}
		if strings.ContainsRune(m.Source+m.Destination, 0) {
			return nil, errMount(m, "a path contains a null byte")
		}
		all = slices.DeleteFunc(all, func(d specs.Mount) bool { return d.Destination == m.Destination })
		all = append(all, m)
	}
	all = slices.DeleteFunc(all, func(m specs.Mount) bool { return m.Type == NoMount })
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return all, nil
}

// NoMount is the type of one that takes a default mount away.
const NoMount = "none"
