// Package step prints a build's progress the way Heroku does, as terminals and pages expect it.
//
//	-----> Go: go.mod at the root names go 1.26
//	       compiling ./cmd/web
//
// An Output is safe for concurrent use, never fails a build because nobody reads it, and
// stops at a limit, which it says.
package step

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	arrow  = "-----> "
	indent = "       "
)

// An Output is where a build's progress goes.
type Output struct {
	mu   sync.Mutex
	w    io.Writer
	left int64
	last []string // of the details since the last step, for a fault that has nothing better
}

// keep is how many lines Last remembers.
const keep = 200

// To makes an Output that writes at most limit bytes to w.
func To(w io.Writer, limit int64) *Output { return &Output{w: w, left: limit} }

// Step begins a part of the work.
func (o *Output) Step(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = nil
	o.print(arrow + fmt.Sprintf(format, args...))
}

// Detail says something about the step.
func (o *Output) Detail(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.detail(fmt.Sprintf(format, args...))
}

func (o *Output) detail(line string) {
	if len(o.last) == keep {
		o.last = append(o.last[:0], o.last[1:]...)
	}
	o.last = append(o.last, line)
	o.print(indent + line)
}

// print writes one line; a reader that went away does not end the build.
func (o *Output) print(line string) {
	if o.left <= 0 {
		return
	}
	line += "\n"
	if o.left -= int64(len(line)); o.left <= 0 {
		line = indent + "(more output than a build may print; the rest is left out)\n"
	}
	_, _ = io.WriteString(o.w, line)
}

// Last are the last details of the current step.
func (o *Output) Last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.last...)
}

// Lines is a writer whose lines become details. Close prints an unfinished one.
func (o *Output) Lines() *Lines { return &Lines{o: o} }

// longest is how much of a line without an end is kept together.
const longest = 8 << 10

// Lines cuts what programs print into lines.
type Lines struct {
	o    *Output
	mu   sync.Mutex
	rest []byte
}

func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < longest {
			return len(p), nil
		}
		if end < 0 {
			end = longest - 1
		}
		l.o.Detail("%s", clean(l.rest[:end]))
		l.rest = l.rest[end+1:]
	}
}

func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.o.Detail("%s", clean(l.rest))
		l.rest = nil
	}
	return nil
}

// clean takes what a line would do to a terminal: cursor moves, and all but the last state
// of a progress bar. Colours are left.
func clean(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\x1b' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(line), "\uFFFD"))
}
