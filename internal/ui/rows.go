package ui

import (
	"encoding/json"
	"html/template"
	"regexp"
	"strings"
	"time"

	"sampan.dev/sampan/web"
)

// Crumb is one step of the way to a page.
type Crumb struct{ Text, URL string }

// Tab is one of several views of a thing.
type Tab struct {
	Text, URL, Icon string
	Current         bool
	Count           int // shown when not zero
}

// Option is one choice of a select.
type Option struct{ Value, Text string }

// TreeRow is one entry of a directory.
type TreeRow struct {
	Name, URL  string
	Kind       string // "dir", "file", "link", "module"
	Message    string // of the last commit that changed it
	MessageURL string
	Time       time.Time
}

// DiffLine is one line of a diff. Old and New are line numbers, zero where it has none.
type DiffLine struct {
	Kind     string // "add", "del", "hunk", "" for context
	Old, New int
	HTML     template.HTML // the line, escaped and highlighted
}

// LogLine is one line that a program wrote.
type LogLine struct {
	Time   time.Time `json:"time,omitzero"`
	Source string    `json:"source,omitempty"` // "web.1"
	Stream string    `json:"stream,omitempty"` // "stderr", "fault" and "system" look different
	Text   string    `json:"text"`
}

// SendLine sends a line to a log view whose data-stream is e.
func SendLine(e *web.Events, id string, l LogLine) error {
	l.Text = Plain(l.Text)
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return e.Send("", id, b)
}

// escapes matches control sequences and operating system commands (ECMA-48 §5.4, §8.3.89).
var escapes = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\-_])")

// Plain is text without the escape sequences by which programs colour a terminal, and
// without what a line overwrote of itself with carriage returns.
func Plain(s string) string {
	if !strings.ContainsAny(s, "\x1b\r") {
		return s
	}
	s = strings.TrimRight(escapes.ReplaceAllString(s, ""), "\r")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	return s
}
