// Package spec writes the OCI runtime configuration of a container with Docker's defaults.
//
// The defaults are those of Docker Engine 29: 14 capabilities, masked and read-only paths, the
// default seccomp profile, its mounts and devices; with one difference: no-new-privileges is
// on unless it is switched off. What the machine does not permit, such as raised limits
// without CAP_SYS_RESOURCE, is left out rather than failing in every container's start.
//
// Follows the OCI runtime specification 1.3.
package spec

import (
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/internal/fault"
)

// Options of a container. Only Rootfs and Args are required.
type Options struct {
	ID         string
	Rootfs     string // mounted: names of users are looked up in it
	ReadOnly   bool
	Args       []string
	Env        []string // NAME=value; PATH, HOSTNAME and TERM are added when missing
	Cwd        string   // empty: /
	User       string   // "name", "uid", "name:group", "uid:gid"; empty: root
	Groups     []string // further ones, by name or number
	Hostname   string
	Domainname string
	Terminal   bool
	Size       [2]uint16 // columns and rows of the terminal

	Mounts  []specs.Mount // after the default ones; one with the same destination takes its place
	ShmSize int64         // of /dev/shm; zero: 64 MiB

	Net, PID, IPC, UTS, Cgroups Namespace

	Cgroup string // path below the cgroup mounts, as /sampan/1234; empty: chosen by the supervisor
	Limits Limits

	Privileged    bool
	NewPrivileges bool   // allow set-user-id programs to raise privileges
	Unmasked      bool   // hide nothing of /proc and /sys
	AppArmor      string // a profile that the kernel has; empty: none
	CapAdd        []string
	CapDrop       []string
	Sysctls       map[string]string
	Devices       []Device
	DeviceRules   []string // further ones, as "c 1:3 mr"
	Annotations   map[string]string
}

// A Namespace is one of its own (the zero value), the host's, or the one at Path.
type Namespace struct {
	Host bool
	Path string
}

// A Device of the host that a container may use.
type Device struct {
	Host      string // path; a directory means all devices in it
	Container string // empty: the same
	Access    string // of r, w and m; empty: all
}

// Limits of a container; zero is none.
type Limits struct {
	Memory      int64 // bytes
	Swap        int64 // bytes beyond Memory; zero: none, -1: no limit
	Reservation int64 // bytes that it keeps when memory is short
	Swappiness  *int64
	NoOOMKill   bool // processes wait for memory and are not killed (cgroup v1)

	CPUs      float64 // 1.5 is one and a half cores
	CPUPeriod uint64  // µs, with CPUQuota, in the place of CPUs
	CPUQuota  int64   // µs of a period
	CPUShares uint64  // relative weight; 1024 is usual
	CPUSet    string  // "0-1"
	MemSet    string  // nodes of memory
	Realtime  Realtime

	Pids    int64
	Ulimits []Ulimit
	OOM     *int // the kernel's oom_score_adj

	BlockWeight  uint16 // 10 to 1000
	BlockWeights []BlockLimit
	ReadBytes    []BlockLimit // a second
	WriteBytes   []BlockLimit
	ReadOps      []BlockLimit
	WriteOps     []BlockLimit
}

// Realtime is a share of the processors for processes that the kernel must not keep waiting.
type Realtime struct {
	Period  uint64 // µs
	Runtime int64  // µs of a period
}

// A Ulimit is one of each process (setrlimit(2)): its name in small letters without RLIMIT_.
type Ulimit struct {
	Name       string
	Soft, Hard int64 // -1: none
}

// A BlockLimit is about one block device.
type BlockLimit struct {
	Path string
	Rate uint64
}

// Build returns the configuration. A mistake of the user is a fault.Invalid.
func Build(o Options) (*specs.Spec, error) {
	if len(o.Args) == 0 {
		return nil, fault.Invalid("the container has no command").
			Try("give one, or use an image that has one")
	}
	user, err := LookupUser(o.Rootfs, o.User, o.Groups...)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(o.Limits.Ulimits)
	if err != nil {
		return nil, err
	}
	caps, err := Capabilities(o.Privileged, o.CapAdd, o.CapDrop)
	if err != nil {
		return nil, err
	}
	linux, err := linuxOf(o)
	if err != nil {
		return nil, err
	}
	mounts, err := mountsOf(o)
	if err != nil {
		return nil, err
	}
	cwd := path.Join("/", o.Cwd)
	return &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: o.Rootfs, Readonly: o.ReadOnly},
		Hostname:    o.Hostname,
		Domainname:  o.Domainname,
		Mounts:      mounts,
		Linux:       linux,
		Annotations: o.Annotations,
		Process: &specs.Process{
			Terminal:        o.Terminal,
			ConsoleSize:     consoleSize(o.Size),
			User:            user,
			Args:            o.Args,
			Env:             environment(o),
			Cwd:             cwd,
			Capabilities:    caps,
			Rlimits:         limits,
			NoNewPrivileges: !o.NewPrivileges && !o.Privileged,
			ApparmorProfile: o.AppArmor,
			OOMScoreAdj:     o.Limits.OOM,
		},
	}, nil
}

func consoleSize(s [2]uint16) *specs.Box {
	if s == [2]uint16{} {
		return nil
	}
	return &specs.Box{Width: uint(s[0]), Height: uint(s[1])}
}

// environment adds what every program may rely on.
func environment(o Options) []string {
	defaults := []string{"PATH=" + DefaultPath}
	if o.Hostname != "" {
		defaults = append(defaults, "HOSTNAME="+o.Hostname)
	}
	if o.Terminal {
		defaults = append(defaults, "TERM=xterm")
	}
	return MergeEnv(defaults, o.Env)
}

// DefaultPath is Docker's.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// errMount is what the user reads of a mount that cannot be.
func errMount(m specs.Mount, why string) error {
	return fault.Invalid("the mount at %q is not possible: %s", m.Destination, why)
}
