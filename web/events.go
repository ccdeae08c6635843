package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// eventStall is how long a browser that is there may take none of an event before it is left.
const eventStall = time.Minute

// Events is a stream of server-sent events (WHATWG HTML §9.2) to one browser. Each event is
// sent at once. It is safe for concurrent use.
type Events struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	ctl  *http.ResponseController
	last string
}

// NewEvents begins a stream as the answer to r. The handler sends until r's context ends
// or Send fails, which both mean that the browser is gone.
func NewEvents(w http.ResponseWriter, r *http.Request) (*Events, error) {
	ctl := http.NewResponseController(w)
	if err := ctl.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("begin event stream: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if err := ctl.Flush(); err != nil {
		return nil, fmt.Errorf("begin event stream: %w", err)
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("last")
	}
	return &Events{w: w, ctl: ctl, last: last}, nil
}

// LastID is the id of the last event that the browser had before it lost an earlier stream,
// or "". A script that opens a stream anew gives it as the value "last" of the query.
func (e *Events) LastID() string { return e.last }

// Send sends one event. An empty name is the browser's "message"; an empty id is none.
func (e *Events) Send(name, id string, data []byte) error {
	var b bytes.Buffer
	field(&b, "event", name)
	field(&b, "id", id)
	for line := range bytes.SplitSeq(bytes.ReplaceAll(data, []byte("\r"), nil), []byte("\n")) {
		b.WriteString("data: ")
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return e.write(b.Bytes())
}

func field(b *bytes.Buffer, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s: %s\n", name, strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(value))
	}
}

// Ping sends a comment, so that a quiet stream is not taken for a dead one.
func (e *Events) Ping() error { return e.write([]byte(":\n\n")) }

func (e *Events) write(p []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.deadline(time.Now().Add(eventStall)); err != nil {
		return err
	}
	if _, err := e.w.Write(p); err != nil {
		return err
	}
	if err := e.ctl.Flush(); err != nil {
		return err
	}
	return e.deadline(time.Time{}) // a stream may be quiet for long
}

func (e *Events) deadline(t time.Time) error {
	if err := e.ctl.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("send an event: %w", err)
	}
	return nil
}
