package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// capabilityNames has the kernel's names by number (capability.h of Linux 5.9 and later).
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
	"SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
	"IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
	"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
	"LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// defaultCapabilities are Docker's fourteen.
func defaultCapabilities() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
		"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
	}
}

// Capabilities are the defaults with what is added and without what is dropped; "ALL" is every
// one that this process has. A name may have its CAP_ or not, in any case.
func Capabilities(privileged bool, add, drop []string) (*specs.LinuxCapabilities, error) {
	have := defaultCapabilities()
	if privileged {
		have = mine()
	}
	plus, all, err := normalize(add)
	if err != nil {
		return nil, err
	}
	if all {
		have = mine()
	}
	minus, none, err := normalize(drop)
	if err != nil {
		return nil, err
	}
	if none {
		have = nil
	}
	have = slices.DeleteFunc(have, func(c string) bool { return slices.Contains(minus, c) })
	have = append(have, plus...)
	slices.Sort(have)
	have = slices.Compact(have)
	for i := range have {
		have[i] = "CAP_" + have[i]
	}
	return &specs.LinuxCapabilities{Bounding: have, Effective: have, Permitted: have}, nil
}

func normalize(names []string) (known []string, all bool, err error) {
	for _, name := range names {
		n := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(name)), "CAP_")
		switch {
		case n == "ALL":
			all = true
		case slices.Contains(capabilityNames[:], n):
			known = append(known, n)
		default:
			return nil, false, fault.Invalid("%q is not a capability", name).
				Try("see `man 7 capabilities` for the names")
		}
	}
	return known, all, nil
}

// mine are the capabilities that this process can hand on.
func mine() []string {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return defaultCapabilities()
	}
	var names []string
	for i, name := range capabilityNames {
		if data[i/32].Permitted&(1<<(i%32)) != 0 {
			names = append(names, name)
		}
	}
	return names
}
