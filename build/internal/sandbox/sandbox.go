// Package sandbox runs the commands of builds: in containers, or as processes of the host.
//
// A command in a container sees an image, the directories that are mounted for it and the
// network, through a bridge of its own; it runs as a user without rights, within limits. A
// command on the host sees the host: only time, memory and the size of files are limited. It
// is never root's: a server of root's runs it as that same user, who reads no secrets.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// user is nobody's number on the host and in the images.
const user = 10001

// A Box runs commands.
type Box interface {
	// Run runs c until it ends. An exit other than 0 is a *Failure.
	Run(ctx context.Context, c Command) error
	// See is the path under which a command finds what is mounted.
	See(m Mount) string
	// Owner is the number of the user and group that commands run as; negative: ours.
	Owner() int
	// Contained reports whether commands run in containers.
	Contained() bool
}

// A Mount shows a directory or file of the host to a command.
type Mount struct {
	Host     string
	At       string // in a container; on the host it is where it is
	ReadOnly bool
}

// A Command is one step of a build.
type Command struct {
	Image  string // the container's root; meaningless on the host
	Argv   []string
	Dir    string // as See says
	Env    []string
	Mounts []Mount
	Output io.Writer
	Limits Limits
}

// Limits of a command; zero is none.
type Limits struct {
	Memory int64
	CPUs   float64
	Pids   int64
	Time   time.Duration
}

// A Failure is a command that ended badly.
type Failure struct {
	Code    int
	OOM     bool
	Timeout time.Duration // that was exceeded
}

func (f *Failure) Error() string {
	switch {
	case f.Timeout > 0:
		return fmt.Sprintf("it took longer than %s", f.Timeout)
	case f.OOM:
		return "it needed more memory than a build may use"
	case f.Code > 128:
		return fmt.Sprintf("it was ended by signal %d", f.Code-128)
	}
	return fmt.Sprintf("it ended with exit code %d", f.Code)
}

// Failed finds the Failure in err.
func Failed(err error) (*Failure, bool) {
	var f *Failure
	ok := errors.As(err, &f)
	return f, ok
}
