package container

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
)

// A wire is what connects a client to a process: a connection that has left HTTP, or a WebSocket.
type wire interface {
	io.ReadWriter
	CloseWrite() error
	StopReading()
	Hangup() bool         // see api.Conn
	Finish(others func()) // see api.Conn
}

// A terminal is a client's end of a process: what is typed and what is seen. It is made before
// the client's wire, for what can fail must fail while there is an answer to say it in.
type terminal struct {
	wire    wire
	keys    *watcher // nil: none leave it
	closes  bool     // the end of what is typed is the end of the process's standard input
	leave   func()   // is called when the client goes
	gone    atomic.Bool
	held    []byte // was typed, and not read yet
	left    bool   // the keys were pressed
	started atomic.Bool
	watch   sync.WaitGroup
}

var errLeft = errors.New("the client has left")

// Read is the process's standard input.
func (t *terminal) Read(p []byte) (int, error) {
	for len(t.held) == 0 {
		if err := t.fetch(len(p)); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.held)
	t.held = t.held[n:]
	return n, nil
}

// fetch waits for what is typed.
func (t *terminal) fetch(n int) error {
	if t.left {
		t.depart()
		return errLeft
	}
	buf := make([]byte, n)
	n, err := t.wire.Read(buf)
	if t.keys != nil {
		t.held, t.left = t.keys.pass(t.held, buf[:n])
	} else {
		t.held = append(t.held, buf[:n]...)
	}
	switch {
	case t.left, err == nil, len(t.held) > 0: // an error comes again
		return nil
	case err == io.EOF && t.closes:
		t.attend()
		return io.EOF
	}
	t.depart()
	return errLeft
}

// Close ends Read.
func (t *terminal) Close() error {
	t.wire.StopReading()
	return nil
}

// Write is the process's output. A client that is gone does not stop the process; leave decides.
func (t *terminal) Write(p []byte) (int, error) {
	if t.gone.Load() {
		return len(p), nil
	}
	if _, err := t.wire.Write(p); err != nil {
		t.depart()
	}
	return len(p), nil
}

func (t *terminal) depart() {
	if !t.gone.Swap(true) {
		t.leave()
	}
}

// attend notices when the client hangs up. Nothing is read any more then.
func (t *terminal) attend() {
	if t.started.Swap(true) {
		return
	}
	t.watch.Go(func() {
		if t.wire.Hangup() {
			t.depart()
		}
	})
}

// streams are what the engine connects.
func (t *terminal) streams(stdin, stdout, stderr, tty bool) engine.Streams {
	var s engine.Streams
	if stdin {
		s.Stdin = t
	}
	if tty {
		if stdout || stderr {
			s.Stdout = t
		}
		return s
	}
	m := api.NewMux(t)
	if stdout {
		s.Stdout = m.Writer(api.Stdout)
	}
	if stderr {
		s.Stderr = m.Writer(api.Stderr)
	}
	return s
}

// plain are streams that are not told from each other, as a WebSocket's.
func (t *terminal) plain(stdin, stdout, stderr bool) engine.Streams {
	s := t.streams(stdin, stdout, stderr, true)
	s.Stdout = nil
	if stdout {
		s.Stdout = t
	}
	if stderr {
		s.Stderr = t
	}
	return s
}

// serve moves bytes until the process ends or, with over, its client leaves.
func (t *terminal) serve(ctx context.Context, s engine.Streams, over func() (engine.Exit, error)) error {
	if s.Stdin == nil {
		t.attend()
	}
	_, err := over()
	left := t.gone.Load()
	t.gone.Store(true)
	t.wire.Finish(t.watch.Wait)
	if left || ctx.Err() != nil {
		return nil
	}
	return err
}
