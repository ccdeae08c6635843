package engine

import (
	"encoding/json"
	"io/fs"
	"net/netip"
	"time"

	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
)

// A Spec is what a container shall be. Empty fields take the image's word, then Docker's
// default; with one difference: no program gains privileges unless NewPrivileges says so.
type Spec struct {
	Name       string // empty: the first twelve letters of the ID
	Image      string // a reference or a digest
	Entrypoint []string
	Command    []string
	Env        []string // NAME=value; a name alone removes the image's
	WorkDir    string
	User       string   // name or number, optionally :group
	Groups     []string // further ones, by name or number
	Hostname   string
	Domainname string
	Labels     map[string]string

	Mounts []Mount
	Tmpfs  map[string]string // target → mount options, as in size=64m

	Network  string       // a network's name, "host", "none" or "container:ID"; empty: the default network
	Networks []Attachment // how it is in that one, and in further ones
	Ports    []Port
	DNS      []string // servers instead of the engine's
	Search   []string // domains instead of the machine's; "." is none
	Resolver []string // options of resolv.conf
	Hosts    []string // NAME:IP for /etc/hosts; the IP host-gateway is the machine's

	// "host", or "container:ID" to share another container's; IPC knows "none" and "shareable", too.
	PID, IPC, UTS, Cgroups string

	Limits       Limits
	CgroupParent string
	Restart      Restart
	Health       *Health
	StopSignal   string
	StopTimeout  time.Duration // how long Stop waits when it is not told; zero: ten seconds, negative: for ever
	Logs         LogLimits
	AutoRemove   bool // when its last run is over

	TTY           bool
	Stdin         bool // keep standard input open for Attach
	Init          bool // a process 1 of ours that reaps, with the program as its child
	ReadOnly      bool // the root file system
	Privileged    bool
	NewPrivileges bool   // set-user-id programs may raise privileges
	Unmasked      bool   // nothing of /proc and /sys is hidden
	Seccomp       string // empty: Docker's profile; "unconfined", or a profile as JSON
	AppArmor      string // a profile that the kernel has; empty or "unconfined": none
	CapAdd        []string
	CapDrop       []string
	Sysctls       map[string]string
	Devices       []Device
	DeviceRules   []string
	ShmSize       int64 // zero: 64 MiB
	Annotations   map[string]string

	Request json.RawMessage // what a client asked for, kept as it came
}

type (
	// Limits of a container; zero is none.
	Limits = spec.Limits
	// A Ulimit is one of each process (setrlimit(2)).
	Ulimit = spec.Ulimit
	// A BlockLimit is about one block device.
	BlockLimit = spec.BlockLimit
	// A Device of the host that a container may use.
	Device = spec.Device
)

// An Attachment is how a container is in a network.
type Attachment struct {
	Network    string
	Aliases    []string // further names by which others find it there
	IPv4, IPv6 netip.Addr
	MAC        string
	Priority   int // the highest has the way out
}

// Kinds of mounts.
const (
	Bind   = "bind"   // Source is a path of the host
	Volume = "volume" // Source is a volume's name; it is made if it does not exist
	Tmpfs  = "tmpfs"
)

// A Mount puts something of the outside into a container.
type Mount struct {
	Type        string
	Source      string
	Target      string
	ReadOnly    bool
	Propagation string      // of a bind: "rprivate" (also when empty), "private", "rshared", "shared", "rslave", "slave"
	Flat        bool        // without what is mounted below Source
	Create      bool        // make the source of a bind when it is not there
	NoCopy      bool        // do not fill a new volume with what the image has at Target
	Subpath     string      // of a volume: what is mounted
	Size        int64       // of a tmpfs, in bytes; zero: half of the memory
	Mode        fs.FileMode // of a tmpfs; zero: 1777
	Options     []string    // of a tmpfs, further ones
	Anonymous   bool        // the volume goes with the container
	Driver      string      // of a volume to be made; empty: local
	DriverOpts  map[string]string
	Labels      map[string]string // of a volume to be made
}

// Restart policies, as Docker names them.
const (
	RestartNo            = "no"
	RestartOnFailure     = "on-failure"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
)

// Restart says what follows an exit. Between tries lies a pause that doubles from 100 ms to
// a minute, and starts over after ten seconds of life.
type Restart struct {
	Policy string // empty: no
	Max    int    // tries of on-failure; zero: without end
}

// LogLimits bound what is kept of a container's output.
type LogLimits struct {
	None  bool  // nothing is kept
	Size  int64 // bytes of one file; zero: 10 MiB
	Files int   // zero: 3
}

// State is where a container is in its life.
type State string

const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting" // waits for its next try
	Exited     State = "exited"
)

// A Container as it was when asked for.
type Container struct {
	ID       string
	Name     string
	Spec     Spec   // as given, with what the image said in its place
	Image    string // the digest of the image's configuration
	Digest   string // of the image, as its names point at it
	State    State
	Place    Place  // in the networks, while it runs
	IP       string // empty without a network of its own
	Pid      int
	Exit     Exit    // of the last run
	Stopped  bool    // somebody asked for its end
	Healthy  string  // "", "starting", "healthy" or "unhealthy"
	Checks   Healthy // what the health checks found
	Created  time.Time
	Started  time.Time
	Finished time.Time
	Restarts int
	Error    string // why it could not be started

	Args       []string // entrypoint and command
	Env        []string // of the image and of the spec
	WorkDir    string
	User       string
	Health     *Health
	StopSignal string
	Volumes    []Mount // those of the spec and those of the image
	Dir        string  // on the host: with the files hosts, hostname and resolv.conf
	Log        string  // its file; empty: none
	Execs      []string
}

// Healthy is what the health checks found.
type Healthy = supervisor.Healthy

type (
	// A Place is where a container is in the networks.
	Place = network.Place
	// An Endpoint is a container's place in a network.
	Endpoint = network.Endpoint
)

// An Exit is how a run ended.
type Exit struct {
	Code int // 128 + n when signal n ended it
	OOM  bool
	At   time.Time
}

// Stats are what a container uses, now.
type Stats struct {
	supervisor.Stats
	Networks []Traffic
}

// Traffic counts what came and went through one interface of a container.
type Traffic = network.Traffic

// Received and Sent are the bytes of all networks.
func (s Stats) Received() (n uint64) {
	for _, t := range s.Networks {
		n += t.Received
	}
	return n
}

// Sent counts the bytes that went to all networks.
func (s Stats) Sent() (n uint64) {
	for _, t := range s.Networks {
		n += t.Sent
	}
	return n
}
