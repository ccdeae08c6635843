package container

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/moment"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) logs(w http.ResponseWriter, r *http.Request) error {
	p := logForm{
		stdout: api.Bool(r, "stdout"), stderr: api.Bool(r, "stderr"), stamps: api.Bool(r, "timestamps"), details: api.Bool(r, "details"),
	}
	if !p.stdout && !p.stderr {
		return fault.Invalid("must specify at least one of 'stdout' or 'stderr'")
	}
	o, err := logOptions(r)
	if err != nil {
		return err
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if c.Log == "" {
		return api.NotImplemented("configured logging driver does not support reading")
	}
	kind := types.MediaTypeRawStream
	if !c.Spec.TTY && api.AtLeast(r, "1.42") {
		kind = types.MediaTypeMultiplexedStream
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	out := &lazy{w: w, flush: func() { api.Flush(w) }}
	if o.Follow {
		api.Flush(w)
	}
	defer out.close()
	p.to(out, c.Spec.TTY)
	err = s.engine.Logs(r.Context(), c.ID, o, p.write)
	if r.Context().Err() != nil {
		return nil // the client has seen enough
	}
	return err
}

func logOptions(r *http.Request) (o engine.LogOptions, err error) {
	q := r.URL.Query()
	o.Follow = api.Bool(r, "follow")
	if o.Since, err = logTime(q.Get("since")); err != nil {
		return o, fault.Invalid(`invalid value for "since": %w`, err)
	}
	if o.Until, err = logTime(q.Get("until")); err != nil {
		return o, fault.Invalid(`invalid value for "until": %w`, err)
	}
	o.Tail = tail(q.Get("tail"))
	return o, nil
}

// logTime is a bound of a log; "0" is none, as nothing is.
func logTime(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	return moment.Parse(text, time.Now())
}

// tail is a number of lines as the engine means it: zero is all, a negative one is none. What is
// no number is all, as "all" is.
func tail(text string) int {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil, n < 0:
		return 0
	case n == 0:
		return -1
	}
	return n
}

// A logForm says which lines are written, and how.
type logForm struct {
	stdout, stderr  bool
	stamps, details bool
	out, err        io.Writer
	buf             []byte
}

// to chooses where they are written: in two streams, or in one, as a terminal's are.
func (p *logForm) to(w io.Writer, tty bool) {
	if tty {
		p.out, p.err = w, w
		return
	}
	m := api.NewMux(w)
	p.out, p.err = m.Writer(api.Stdout), m.Writer(api.Stderr)
}

// stampForm is RFC 3339 with all nine digits, so that lines are aligned.
const stampForm = "2006-01-02T15:04:05.000000000Z07:00"

func (p *logForm) write(l engine.Line) error {
	w, wanted := p.out, p.stdout
	if l.Stream == "stderr" {
		w, wanted = p.err, p.stderr
	}
	if !wanted {
		return nil
	}
	p.buf = p.buf[:0]
	if p.stamps {
		p.buf = append(l.Time.UTC().AppendFormat(p.buf, stampForm), ' ')
	}
	if p.details {
		p.buf = append(p.buf, ' ') // there are none to be written before it
	}
	p.buf = append(p.buf, l.Text...)
	_, err := w.Write(p.buf)
	return err
}

// replay writes what was logged before to a new client.
func (s *Service) replay(ctx context.Context, c engine.Container, p logForm) error {
	if c.Log == "" {
		return nil
	}
	return s.engine.Logs(ctx, c.ID, engine.LogOptions{}, p.write)
}

// lazy gathers what is written in quick succession, for a packet for each line would cost more
// than the line. What is written waits for a moment at most.
type lazy struct {
	w     io.Writer
	flush func()

	mu    sync.Mutex
	buf   []byte
	timer *time.Timer // runs while something waits
	err   error
	ended bool
}

const (
	lazyFor  = 2 * time.Millisecond
	lazySize = 32 << 10
)

func (l *lazy) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	l.buf = append(l.buf, p...)
	if len(l.buf) >= lazySize {
		l.send()
		return len(p), l.err
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(lazyFor, l.due)
	}
	return len(p), nil
}

func (l *lazy) due() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	if !l.ended {
		l.send()
		l.flush()
	}
}

// send is called with mu held.
func (l *lazy) send() {
	if l.err == nil && len(l.buf) > 0 {
		_, l.err = l.w.Write(l.buf)
	}
	l.buf = l.buf[:0]
}

// close sends the rest. Nothing is written after it.
func (l *lazy) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
