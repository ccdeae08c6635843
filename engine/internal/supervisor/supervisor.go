// Package supervisor is how the engine speaks to sampan-init, the process that runs containers.
//
// One sampan-init serves one engine directory and outlives the server: it is the parent of
// every container and keeps what must not be lost while the server is away: output, standard
// input, terminals, exit codes, restarts and health checks. This package is the client,
// package wire the protocol, package daemon the server.
//
// A Client is safe for concurrent use. Every call is a connection of its own to the unix
// socket in the directory, so that a call ends when its context does and no call waits for
// another. Closing a Client, or losing the process that holds it, ends no container.
package supervisor

import (
	"io"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Request is a container as sampan-init is told of it; it is kept on disk until Delete.
type Request struct {
	ID string `json:"id"` // letters, digits, _ + - . only

	// Spec is the OCI configuration: Root.Path is the mounted root file system, the network
	// namespace's path, when it has one, is where the engine made it ready. Its hooks and its
	// seccomp section are not used.
	Spec *specs.Spec `json:"spec"`

	Seccomp []byte `json:"seccomp,omitempty"` // a program of package spec; empty: none
	Stdin   bool   `json:"stdin,omitempty"`   // keep standard input open for Attach; otherwise it is empty
	Init    bool   `json:"init,omitempty"`    // a process 1 of ours that reaps, with the program as its child
	Log     Log    `json:"log"`

	StopSignal int     `json:"stop_signal,omitempty"` // zero: SIGTERM
	Restart    Restart `json:"restart"`
	Health     *Health `json:"health,omitempty"`
}

// Log says where the output of a container goes, in Docker's json-file format.
type Log struct {
	Path  string `json:"path"`            // empty: nowhere
	Size  int64  `json:"size,omitempty"`  // bytes of one file before it is rotated; zero: 10 MiB
	Files int    `json:"files,omitempty"` // how many, Path and Path.1 to Path.n-1; zero: 3
}

// Restart policies, as Docker names them.
const (
	RestartNo            = "no"
	RestartOnFailure     = "on-failure"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
)

// Restart says what follows an exit that nobody asked for. The pause before a try doubles
// from 100 ms to a minute and starts over after a run of ten seconds.
type Restart struct {
	Policy string `json:"policy,omitempty"` // empty: no
	Max    int    `json:"max,omitempty"`    // tries of on-failure; zero: without end
}

// Health is a command run inside to see whether a container works. Zero values are Docker's
// defaults: every 30 s, for at most 30 s, unhealthy after 3 failures.
type Health struct {
	Command     []string      `json:"command"`
	Interval    time.Duration `json:"interval,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`
	StartPeriod time.Duration `json:"start_period,omitempty"`
	Retries     int           `json:"retries,omitempty"`

	StartInterval time.Duration `json:"start_interval,omitempty"` // in the place of Interval in the start period
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

// A Status is what sampan-init knows of a container.
type Status struct {
	ID       string    `json:"id"`
	State    State     `json:"state"`
	Version  uint64    `json:"version"` // grows with every change: the higher of two is the newer
	Pid      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Exit     *Exit     `json:"exit,omitempty"` // of the last run
	Restarts int       `json:"restarts,omitempty"`
	Stopped  bool      `json:"stopped,omitempty"` // somebody asked for the end
	Health   *Healthy  `json:"health,omitempty"`
	OOMs     uint64    `json:"ooms,omitempty"`  // processes that the kernel killed in this run for lack of memory
	Lost     uint64    `json:"lost,omitempty"`  // log lines that found no room on the disk
	Error    string    `json:"error,omitempty"` // why the last start failed
}

// An Exit is how a run ended.
type Exit struct {
	Code int       `json:"code"` // 128 + n when signal n ended it; 255 when nobody saw it
	OOM  bool      `json:"oom,omitempty"`
	At   time.Time `json:"at"`
}

// Health states, as Docker names them.
const (
	Starting  = "starting"
	IsHealthy = "healthy"
	Unhealthy = "unhealthy"
)

// Healthy is what the health checks found.
type Healthy struct {
	Status   string  `json:"status"`
	Failures int     `json:"failures"`         // in a row
	Checks   []Check `json:"checks,omitempty"` // the last five, oldest first
}

// A Check is one run of a health command.
type Check struct {
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Code   int       `json:"code"`   // -1: it took too long or did not start
	Output string    `json:"output"` // the first 4 KiB
}

// A Process is a further process in a running container.
type Process struct {
	ID         string      `json:"id,omitempty"` // by which an Event tells of its end
	Args       []string    `json:"args"`
	Env        []string    `json:"env,omitempty"`  // all of it: nothing is inherited
	Cwd        string      `json:"cwd,omitempty"`  // empty: the container's
	User       *specs.User `json:"user,omitempty"` // nil: root
	Terminal   bool        `json:"terminal,omitempty"`
	Size       Size        `json:"size,omitzero"`
	Privileged bool        `json:"privileged,omitempty"` // all capabilities and no seccomp
	Detached   bool        `json:"detached,omitempty"`   // it goes on without its caller; its output is lost
}

// Size of a terminal in characters.
type Size struct{ Columns, Rows uint16 }

// Streams connect a person to a process. What is nil is not connected. Reading of Stdin
// ends with the call only if Stdin ends or is an io.Closer, which is then closed.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer   // unused with a terminal
	Resize <-chan Size // may be nil
}

// Stats are what a container uses, now.
type Stats struct {
	Time        time.Time     `json:"time"`
	CPU         time.Duration `json:"cpu"`          // since the start
	Memory      uint64        `json:"memory"`       // bytes, without the page cache that can go
	MemoryLimit uint64        `json:"memory_limit"` // zero: none
	Pids        uint64        `json:"pids"`
	PidsLimit   uint64        `json:"pids_limit"` // zero: none
	OOMKills    uint64        `json:"oom_kills"`
	Read        uint64        `json:"read"`    // bytes of block devices
	Written     uint64        `json:"written"` // bytes of block devices
	Details     Details       `json:"details"`
}

// Details are what the kernel counts, under its own names.
type Details struct {
	User, Kernel              time.Duration        // parts of the CPU time
	PerCPU                    []time.Duration      `json:",omitempty"` // version 1 of control groups
	Periods, ThrottledPeriods uint64               // of the CPU limit
	Throttled                 time.Duration        // time that the limit took away
	MemoryUsage, MemoryMax    uint64               // with the page cache
	MemoryFailures            uint64               `json:",omitempty"` // how often the limit was hit
	MemoryStat                map[string]uint64    `json:",omitempty"`
	Block                     map[string][]BlockIO `json:",omitempty"` // io_service_bytes_recursive, …
}

// BlockIO is one count of one block device.
type BlockIO struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// An Update changes a container while it runs. What is nil stays.
type Update struct {
	Resources *specs.LinuxResources `json:"resources,omitempty"`
	Restart   *Restart              `json:"restart,omitempty"`
}

// Actions that an Event tells of.
const (
	OnCreate  = "create"
	OnStart   = "start"
	OnDie     = "die"
	OnRestart = "restart" // the next try is planned
	OnOOM     = "oom"
	OnHealth  = "health_status"
	OnPause   = "pause"
	OnResume  = "unpause"
	OnUpdate  = "update"
	OnDelete  = "destroy"
	OnExecDie = "exec_die" // a detached process has ended
)

// An Event is a change, with the state after it.
type Event struct {
	Time   time.Time `json:"time"`
	Action string    `json:"action"`
	Status Status    `json:"status"`
	Exec   string    `json:"exec,omitempty"` // the process of OnExecDie
	Code   int       `json:"code,omitempty"` // and its exit code
}
