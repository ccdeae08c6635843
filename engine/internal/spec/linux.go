package spec

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// What of /proc and /sys tells of, or reaches into, the machine below.
func maskedPaths() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return append(paths, thermal...)
}

func readOnlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func linuxOf(o Options) (*specs.Linux, error) {
	devices, rules, err := devicesOf(o)
	if err != nil {
		return nil, err
	}
	resources, err := Resources(o.Limits)
	if err != nil {
		return nil, err
	}
	resources.Devices = rules
	l := &specs.Linux{
		Namespaces:  namespacesOf(o),
		Devices:     devices,
		Resources:   resources,
		CgroupsPath: o.Cgroup,
		Sysctl:      sysctls(o),
	}
	if !o.Privileged {
		l.MaskedPaths, l.ReadonlyPaths = maskedPaths(), readOnlyPaths()
	}
	return l, nil
}

func namespacesOf(o Options) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.UTSNamespace},
		{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
	}
	if !o.Privileged {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if !o.HostNet {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: o.NetNS})
	}
	return ns
}

// sysctls let a program without rights listen on any port and ping, in its own network only.
func sysctls(o Options) map[string]string {
	all := map[string]string{}
	if !o.HostNet {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		all["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for name, value := range o.Sysctls {
		all[name] = value
	}
	return all
}

const period = 100_000 // µs in which a share of the processors is counted

// Resources are the limits as the runtime is told of them. A zero limit is left out.
func Resources(l Limits) (*specs.LinuxResources, error) {
	if l.Memory < 0 || l.CPUs < 0 || l.Pids < 0 || l.Swap < -1 {
		return nil, fault.Invalid("a limit of a container is negative").Try("leave it out for no limit")
	}
	if l.Memory > 0 && l.Memory < 6<<20 {
		return nil, fault.Invalid("the memory limit of %d bytes is too small", l.Memory).
			Try("allow 6 MiB at least")
	}
	r := &specs.LinuxResources{Memory: memory(l), CPU: cpu(l)}
	if l.Pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return r, nil
}

func memory(l Limits) *specs.LinuxMemory {
	if l.Memory == 0 {
		return nil
	}
	m := &specs.LinuxMemory{Limit: &l.Memory}
	if limitsSwap() {
		total := l.Memory + l.Swap
		if l.Swap == -1 {
			total = -1
		}
		m.Swap = &total
	}
	return m
}

// limitsSwap reports whether the kernel counts swap, which version 1 does only when booted so.
func limitsSwap() bool {
	if unified() {
		return true
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

// unified reports whether only version 2 of control groups is there.
func unified() bool {
	var st unix.Statfs_t
	err := unix.Statfs("/sys/fs/cgroup", &st)
	return err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

func cpu(l Limits) *specs.LinuxCPU {
	if l.CPUs == 0 && l.CPUShares == 0 && l.CPUSet == "" {
		return nil
	}
	c := &specs.LinuxCPU{Cpus: l.CPUSet}
	if l.CPUs > 0 {
		quota, every := max(int64(l.CPUs*period), 1000), uint64(period)
		c.Quota, c.Period = &quota, &every
	}
	if l.CPUShares > 0 {
		c.Shares = &l.CPUShares
	}
	return c
}

// devicesOf lists what is made in /dev beside the defaults of the runtime, and who may be used.
func devicesOf(o Options) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	if o.Privileged {
		devices, err := hostDevices()
		return devices, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, err
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	var devices []specs.LinuxDevice
	for _, path := range o.Devices {
		d, err := device(path)
		if err != nil {
			return nil, nil, fault.Invalid("the device %q cannot be given to a container: %w", path, err)
		}
		devices = append(devices, d)
		rules = append(rules, specs.LinuxDeviceCgroup{
			Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: "rwm",
		})
	}
	return devices, rules, nil
}

var errNoDevice = errors.New("it is not a device")

func device(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	default:
		return specs.LinuxDevice{}, errNoDevice
	}
	mode := fs.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: path, Type: kind, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))),
	}, nil
}

// hostDevices are all of /dev but what a container has of its own.
func hostDevices() ([]specs.LinuxDevice, error) {
	own := []string{"/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console", "/dev/.udev"}
	var all []specs.LinuxDevice
	err := filepath.WalkDir("/dev", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(own, path) && e.IsDir():
			return fs.SkipDir
		case slices.Contains(own, path) || e.Type()&fs.ModeDevice == 0:
			return nil
		}
		if d, err := device(path); err == nil { // it may have gone meanwhile
			all = append(all, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the devices of the machine: %w", err)
	}
	return all, nil
}

// defaultMounts are Docker's.
func defaultMounts(o Options) []specs.Mount {
	shm := cmp.Or(o.ShmSize, 64<<20)
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
	if o.HostNet && !o.Privileged {
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
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return all, nil
}

// rlimits never exceed what this process may hand on.
func rlimits(l Limits) []specs.POSIXRlimit {
	if l.NoFile == 0 {
		return nil
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return nil
	}
	n := l.NoFile
	if !MayRaiseLimits() {
		n = min(n, now.Max)
	}
	return []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: n, Hard: n}}
}

// MayRaiseLimits reports whether this process has CAP_SYS_RESOURCE.
func MayRaiseLimits() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
