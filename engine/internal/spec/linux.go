package spec

import (
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// MaskedPaths are what of /proc and /sys tells of the machine below.
func MaskedPaths() []string {
	paths := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return append(paths, thermal...)
}

// ReadOnlyPaths are what of /proc reaches into the machine below.
func ReadOnlyPaths() []string {
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
	if !o.Privileged && !o.Unmasked {
		l.MaskedPaths, l.ReadonlyPaths = MaskedPaths(), ReadOnlyPaths()
	}
	return l, nil
}

func namespacesOf(o Options) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(kind specs.LinuxNamespaceType, n Namespace) {
		if !n.Host {
			list = append(list, specs.LinuxNamespace{Type: kind, Path: n.Path})
		}
	}
	add(specs.UTSNamespace, o.UTS)
	add(specs.PIDNamespace, o.PID)
	add(specs.IPCNamespace, o.IPC)
	add(specs.CgroupNamespace, o.Cgroups)
	add(specs.NetworkNamespace, o.Net)
	return list
}

// sysctls let a program without rights listen on any port and ping, in its own network only.
func sysctls(o Options) map[string]string {
	all := map[string]string{}
	if !o.Net.Host {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		all["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for name, value := range o.Sysctls {
		all[name] = value
	}
	return all
}

// Unified reports whether only version 2 of control groups is there.
func Unified() bool {
	var st unix.Statfs_t
	err := unix.Statfs("/sys/fs/cgroup", &st)
	return err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}
