package engine

import "time"

// A Spec is what a container shall be. Empty fields take the image's word, then Docker's default.
type Spec struct {
	Name       string // empty: the first twelve letters of the ID
	Image      string // a reference or a digest
	Entrypoint []string
	Command    []string
	Env        []string // NAME=value; a name alone removes the image's
	WorkDir    string
	User       string // name or number, optionally :group
	Hostname   string
	Labels     map[string]string

	Mounts []Mount
	Tmpfs  map[string]string // target → mount options, as in size=64m

	Network string   // a network's name, "host" or "none"; empty: the default network
	Aliases []string // further names in the network
	Ports   []Port
	DNS     []string // servers instead of the engine's

	Limits      Limits
	Restart     Restart
	Health      *Health
	StopSignal  string
	StopTimeout time.Duration // how long Stop waits when it is not told; zero: ten seconds
	Logs        LogLimits

	TTY        bool
	Stdin      bool // keep standard input open for Attach
	ReadOnly   bool // the root file system
	Privileged bool
	CapAdd     []string
	CapDrop    []string
	Sysctls    map[string]string
}

// Kinds of mounts.
const (
	Bind   = "bind"   // Source is a path of the host
	Volume = "volume" // Source is a volume's name; it is made if it does not exist
	Tmpfs  = "tmpfs"
)

// A Mount puts something of the outside into a container.
type Mount struct {
	Type     string
	Source   string
	Target   string
	ReadOnly bool
	NoCopy   bool  // do not fill a new volume with what the image has at Target
	Size     int64 // of a tmpfs, in bytes; zero: half of the memory
}

// Limits of a container; zero is none.
type Limits struct {
	Memory    int64   // bytes
	Swap      int64   // bytes beyond Memory; zero: none, -1: no limit
	CPUs      float64 // 1.5 is one and a half cores
	CPUShares uint64  // relative weight; 1024 is usual
	CPUSet    string  // "0-1"
	Pids      int64
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
	Spec     Spec   // as given, with the ports that were chosen
	Image    string // the digest of the image's configuration
	State    State
	IP       string // empty without a network of its own
	Pid      int
	Exit     Exit   // of the last run
	Healthy  string // "", "starting", "healthy" or "unhealthy"
	Created  time.Time
	Started  time.Time
	Finished time.Time
	Restarts int
	Error    string // why it could not be started
}

// An Exit is how a run ended.
type Exit struct {
	Code int // 128 + n when signal n ended it
	OOM  bool
	At   time.Time
}

// An ExecSpec is a further process in a running container.
type ExecSpec struct {
	Command    []string
	Env        []string
	WorkDir    string
	User       string
	TTY        bool
	Privileged bool
	Size       Size // of the terminal, at first
}

// Stats are what a container uses, now.
type Stats struct {
	Time        time.Time
	CPU         time.Duration // since the start
	Memory      uint64        // bytes, without the page cache that can go
	MemoryLimit uint64        // zero: none
	Pids        uint64
	PidsLimit   uint64
	OOMKills    uint64
	Read        uint64 // bytes of block devices
	Written     uint64
	Received    uint64 // bytes of the network
	Sent        uint64
}
