// Package runner declares what can run an app's instances, and the words for it.
//
// An instance is one running copy of one process type of one release: "web.1 of v3". A
// Runner keeps instances alive when the server dies and finds them again afterwards: what
// Start returned is in Instances until Remove, with its logs. A Runner never restarts
// anything: the controller decides. Every Runner passes runnertest.Run and is safe for
// concurrent use.
package runner

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// A Runner starts, finds and ends instances.
type Runner interface {
	Observer
	Traits() Traits

	// Start returns when the program has been started, before it is ready.
	Start(ctx context.Context, spec Spec) (Instance, error)
	// Instances lists all that was started and not removed, also by an earlier server.
	Instances(ctx context.Context) ([]Instance, error)
	// Wait returns when the instance has ended, or at once if it has already.
	Wait(ctx context.Context, id string) (Exit, error)
	// Stop asks an instance to end, insists after grace, and returns when it has ended.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Remove forgets an instance and its logs, ending it first if need be.
	Remove(ctx context.Context, id string) error
	// Run starts a one-off program attached to streams, waits for it and removes it.
	Run(ctx context.Context, spec Spec, streams Streams) (Exit, error)
	// Fetch makes an image from elsewhere ready to start. Runners without images refuse.
	Fetch(ctx context.Context, image string) (Fetched, error)
	// Has reports whether what a build made can be started here.
	Has(ctx context.Context, artifact Artifact) (bool, error)
	// Discard frees what a build left: an image, or a directory on the host.
	Discard(ctx context.Context, artifact Artifact) error
}

// An Observer looks at instances.
type Observer interface {
	// Logs calls each for the lines kept, oldest first, and with Follow for those to come
	// until the instance has ended.
	Logs(ctx context.Context, id string, opts LogOptions, each func(Line) error) error
	Stats(ctx context.Context, id string) (Stats, error)
	// Listening tells which TCP addresses the instance's programs listen on, as they see them.
	Listening(ctx context.Context, id string) ([]netip.AddrPort, error)
}

// Traits say what a person should know about a Runner.
type Traits struct {
	Name     string // "containers", "host processes"
	Isolated bool   // instances cannot see each other or the host
}

// An Artifact is what a build made: an image for containers, a directory for the host.
type Artifact struct {
	Image string `json:"image,omitempty"`
	Dir   string `json:"dir,omitempty"`
}

// Fetched is an image that is here now.
type Fetched struct {
	Artifact
	Port int // that it says it listens on; 0: none
}

// A Spec says what to start.
type Spec struct {
	Name    string // unique: "hello-web-104729385-x7k2p"
	App     string // the app's key, the same for life
	AppName string
	Process string // "web"
	Number  int    // the 1 of web.1
	Release int
	Artifact
	Command []string // replaces the image's entrypoint and command; empty: what the image says
	Env     []string
	Port    int // what PORT is to say; a Runner without isolation chooses another
	Limits  Limits
}

// Limits bound one instance; zero is unlimited.
type Limits struct {
	Memory int64   // bytes
	CPU    float64 // cores
	Pids   int64
}

// An Instance is one started program.
type Instance struct {
	ID      string
	Name    string
	App     string
	Process string
	Number  int
	Release int
	Addr    string // host:port on which the server reaches its PORT
	Started time.Time
	Exit    *Exit // nil while it runs
}

// An Exit tells how an instance ended.
type Exit struct {
	Code int       `json:"code"` // 128+n for signal n; -1 when nobody saw it
	OOM  bool      `json:"oom,omitempty"`
	At   time.Time `json:"at"`
}

// A Line is one line of an instance's output.
type Line struct {
	Time   time.Time
	Stream string // "stdout", "stderr"
	Text   string
}

// LogOptions choose lines.
type LogOptions struct {
	Follow bool
	Tail   int       // the last n of those kept; 0 is all, negative is none
	Since  time.Time // lines of this moment and later
}

// Stats is what an instance uses.
type Stats struct {
	CPU         time.Duration // total since it started
	Memory      int64         // bytes
	MemoryLimit int64         // bytes; 0 is unlimited
	OOMKills    int64
}

// Streams attach a one-off program to its user.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Size           Size        // of the terminal at first
	Resize         <-chan Size // later sizes; may be nil
}

// A Size is a terminal's.
type Size struct{ Width, Height uint16 }
