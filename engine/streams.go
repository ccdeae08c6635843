package engine

import (
	"io"
	"time"
)

// Streams connect a person to a process. What is nil is not connected.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer // unused with a terminal
	Resize <-chan Size
}

// LogOptions choose lines of a log.
type LogOptions struct {
	Follow bool      // go on until the container is removed, its last run ends, or the context does
	Tail   int       // the last n lines; zero: all; negative: none of the old ones
	Since  time.Time // zero: from the beginning
	Until  time.Time // zero: to the end
}

// A Line of a container's output. Text keeps its newline, which is missing where a line was
// longer than 16 KiB and goes on in the next Line of the same stream.
type Line struct {
	Time   time.Time
	Stream string // "stdout" or "stderr"
	Text   string
}

// An Event is a change that this engine made or saw.
type Event struct {
	Time   time.Time
	Type   string // "container", "image", "network" or "volume"
	Action string // "create", "start", "die", "oom", "health_status", "destroy", …
	ID     string
	Name   string
	Labels map[string]string // of a container
	Exit   *Exit             // of "die"
	Detail string            // of "health_status": "healthy" or "unhealthy"
}
