package spec

import (
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

const (
	period    = 100_000 // µs in which a share of the processors is counted
	minMemory = 6 << 20
)

// Resources are the limits as the runtime is told of them. A zero limit is left out.
func Resources(l Limits) (*specs.LinuxResources, error) {
	if l.Memory < 0 || l.CPUs < 0 || l.Pids < 0 || l.Swap < -1 {
		return nil, fault.Invalid("a limit of a container is negative").Try("leave it out for no limit")
	}
	if l.Memory > 0 && l.Memory < minMemory {
		return nil, fault.Invalid("the memory limit of %d bytes is too small", l.Memory).
			Try("allow 6 MiB at least")
	}
	block, err := blockIO(l)
	if err != nil {
		return nil, err
	}
	r := &specs.LinuxResources{Memory: memory(l), CPU: cpu(l), BlockIO: block}
	if l.Pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return r, nil
}

func memory(l Limits) *specs.LinuxMemory {
	if l.Memory == 0 && l.Reservation == 0 && l.Swappiness == nil && !l.NoOOMKill {
		return nil
	}
	m := &specs.LinuxMemory{}
	if l.Memory > 0 {
		m.Limit = &l.Memory
		if LimitsSwap() {
			total := l.Memory + l.Swap
			if l.Swap == -1 {
				total = -1
			}
			m.Swap = &total
		}
	}
	if l.Reservation > 0 {
		m.Reservation = &l.Reservation
	}
	if !Unified() { // version 2 has neither
		if l.Swappiness != nil && *l.Swappiness >= 0 {
			swappiness := uint64(*l.Swappiness)
			m.Swappiness = &swappiness
		}
		if l.NoOOMKill {
			m.DisableOOMKiller = &l.NoOOMKill
		}
	}
	return m
}

// LimitsSwap reports whether the kernel counts swap, which version 1 does only when booted so.
func LimitsSwap() bool {
	if Unified() {
		return true
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

func cpu(l Limits) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: l.CPUSet, Mems: l.MemSet}
	switch {
	case l.CPUs > 0:
		quota, every := max(int64(l.CPUs*period), 1000), uint64(period)
		c.Quota, c.Period = &quota, &every
	case l.CPUQuota != 0 || l.CPUPeriod != 0:
		if l.CPUQuota != 0 {
			c.Quota = &l.CPUQuota
		}
		if l.CPUPeriod != 0 {
			c.Period = &l.CPUPeriod
		}
	}
	if l.CPUShares > 0 {
		c.Shares = &l.CPUShares
	}
	if l.Realtime != (Realtime{}) {
		c.RealtimePeriod, c.RealtimeRuntime = &l.Realtime.Period, &l.Realtime.Runtime
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

func blockIO(l Limits) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	if l.BlockWeight > 0 {
		b.Weight = &l.BlockWeight
	}
	for _, w := range l.BlockWeights {
		weight := uint16(w.Rate)
		major, minor, err := blockDevice(w.Path)
		if err != nil {
			return nil, err
		}
		d := specs.LinuxWeightDevice{Weight: &weight}
		d.Major, d.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, d)
	}
	for _, t := range []struct {
		limits []BlockLimit
		to     *[]specs.LinuxThrottleDevice
	}{
		{l.ReadBytes, &b.ThrottleReadBpsDevice}, {l.WriteBytes, &b.ThrottleWriteBpsDevice},
		{l.ReadOps, &b.ThrottleReadIOPSDevice}, {l.WriteOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, limit := range t.limits {
			major, minor, err := blockDevice(limit.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: limit.Rate}
			d.Major, d.Minor = major, minor
			*t.to = append(*t.to, d)
		}
	}
	if b.Weight == nil && b.WeightDevice == nil && b.ThrottleReadBpsDevice == nil && b.ThrottleWriteBpsDevice == nil &&
		b.ThrottleReadIOPSDevice == nil && b.ThrottleWriteIOPSDevice == nil {
		return nil, nil
	}
	return b, nil
}

func blockDevice(path string) (major, minor int64, err error) {
	d, err := device(path)
	if err == nil && d.Type != "b" {
		err = errNoDevice
	}
	if err != nil {
		return 0, 0, fault.Invalid("%q is no block device to limit: %w", path, err)
	}
	return d.Major, d.Minor, nil
}

// resource is the number of a limit of setrlimit(2), by its name in small letters.
func resource(name string) (number int, ok bool) {
	number, ok = map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
		"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
		"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}[name]
	return number, ok
}

// rlimits never exceed what this process may hand on.
func rlimits(list []Ulimit) ([]specs.POSIXRlimit, error) {
	raise := MayRaiseLimits()
	var all []specs.POSIXRlimit
	for _, l := range list {
		name := strings.ToLower(l.Name)
		number, ok := resource(name)
		if !ok {
			return nil, fault.Invalid("%q is not a limit of a process", l.Name).Try("see `man 2 setrlimit` for the names")
		}
		if l.Hard != -1 && (l.Soft == -1 || l.Soft > l.Hard) {
			return nil, fault.Invalid("the soft limit %s is above the hard one: %d, %d", name, l.Soft, l.Hard)
		}
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)} // -1 is RLIM_INFINITY
		if !raise {
			var now unix.Rlimit
			if err := unix.Getrlimit(number, &now); err != nil {
				return nil, fmt.Errorf("read the limit %s: %w", name, err)
			}
			r.Soft, r.Hard = min(r.Soft, now.Max), min(r.Hard, now.Max)
		}
		all = append(all, r)
	}
	return all, nil
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
