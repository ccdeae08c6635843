package system

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	types "github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"
)

func uname() (kernel, arch string) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
}

// system is the name and the version of the distribution (os-release(5)).
func system() (name, version string) {
	values := map[string]string{}
	for _, path := range []string{"/usr/lib/os-release", "/etc/os-release"} { // the later one rules
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok {
				values[key] = strings.Trim(value, `"'`)
			}
		}
	}
	name = values["PRETTY_NAME"]
	if name == "" {
		name = "Linux"
	}
	return name, values["VERSION_ID"]
}

func memory() int64 {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0
	}
	return int64(si.Totalram) * int64(si.Unit)
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

func says(path, what string) bool {
	raw, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(raw)) == what
}

func exists(parts ...string) bool {
	_, err := os.Stat(filepath.Join(parts...))
	return err == nil
}

// cgroups is where control groups are mounted.
const cgroups = "/sys/fs/cgroup"

// limits finds out which of a container's limits the kernel can enforce.
func limits(out *types.Info) {
	raw, err := os.ReadFile(filepath.Join(cgroups, "cgroup.controllers"))
	if err != nil {
		first(out)
	} else {
		second(out, strings.Fields(string(raw)))
	}
	for _, lacking := range []struct {
		there bool
		what  string
	}{
		{out.MemoryLimit, "No memory limit support"},
		{out.SwapLimit, "No swap limit support"},
		{out.CPUCfsPeriod, "No cpu cfs period support"},
		{out.CPUCfsQuota, "No cpu cfs quota support"},
		{out.CPUShares, "No cpu shares support"},
		{out.CPUSet, "No cpuset support"},
		{out.PidsLimit, "No pids limit support"},
		{out.IPv4Forwarding, "IPv4 forwarding is disabled"},
	} {
		if !lacking.there {
			out.Warnings = append(out.Warnings, "WARNING: "+lacking.what)
		}
	}
}

// first is for control groups of version 1: a directory for each controller.
func first(out *types.Info) {
	out.CgroupVersion = "1"
	out.MemoryLimit = exists(cgroups, "memory", "memory.limit_in_bytes")
	out.SwapLimit = exists(cgroups, "memory", "memory.memsw.limit_in_bytes")
	out.OomKillDisable = exists(cgroups, "memory", "memory.oom_control")
	out.CPUCfsPeriod = exists(cgroups, "cpu", "cpu.cfs_period_us")
	out.CPUCfsQuota = exists(cgroups, "cpu", "cpu.cfs_quota_us")
	out.CPUShares = exists(cgroups, "cpu", "cpu.shares")
	out.CPUSet = exists(cgroups, "cpuset")
	out.PidsLimit = exists(cgroups, "pids")
}

// second is for version 2: a list of controllers.
func second(out *types.Info, controllers []string) {
	out.CgroupVersion = "2"
	cpu, mem := slices.Contains(controllers, "cpu"), slices.Contains(controllers, "memory")
	out.MemoryLimit = mem
	out.SwapLimit = mem && exists("/proc/swaps")
	out.CPUCfsPeriod, out.CPUCfsQuota, out.CPUShares = cpu, cpu, cpu
	out.CPUSet, out.PidsLimit = slices.Contains(controllers, "cpuset"), slices.Contains(controllers, "pids")
}

func security(cgroup string) []string {
	all := []string{}
	if says("/sys/module/apparmor/parameters/enabled", "Y") {
		all = append(all, "name=apparmor")
	}
	all = append(all, "name=seccomp,profile=builtin")
	if cgroup == "2" {
		all = append(all, "name=cgroupns")
	}
	return all
}
