package engine

import (
	"time"

	"sampan.dev/sampan/engine/internal/logfile"
	"sampan.dev/sampan/engine/internal/supervisor"
)

type (
	// Streams connect a person to a process. What is nil is not connected. Reading of Stdin
	// ends with the call only if Stdin ends or is an io.Closer, which is then closed.
	Streams = supervisor.Streams
	// Size of a terminal in characters.
	Size = supervisor.Size
	// A Line of a container's output. Text keeps its newline, which is missing where a line
	// was longer than 16 KiB and goes on in the next Line of the same stream.
	Line = logfile.Line
)

// LogOptions choose lines of a log.
type LogOptions struct {
	Follow bool      // go on until the last run ends, the container is removed, or the context does
	Tail   int       // the last n lines; zero: all; negative: none of the old ones
	Since  time.Time // zero: from the beginning
	Until  time.Time // zero: to the end
}

// An Event is a change that this engine made or saw.
type Event struct {
	Time       time.Time
	Type       string // "container", "image", "network" or "volume"
	Action     string // "create", "start", "die", "retry", "oom", "health_status: healthy", "destroy", …
	ID         string
	Name       string
	Image      string            // of a container, as it was asked for
	Labels     map[string]string // of a container
	Attributes map[string]string // further ones, as Docker names them
	State      State             // of a container, after the change; empty where it does not change
	Exit       *Exit             // of "die"
}
