package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
)

// Exec starts a process and returns its number on the host. wait returns when it has ended and
// its output is delivered; when ctx ends before that the process is killed. A detached one has
// nothing to wait for: its end is an Event.
func (c *Client) Exec(ctx context.Context, id string, p Process, s Streams) (pid int, wait func() (Exit, error), err error) {
	conn, done, err := c.open(ctx, wire.OpExec, id, p, &pid)
	if err != nil {
		return 0, nil, err
	}
	if p.Detached {
		done()
		return pid, func() (Exit, error) { return Exit{}, nil }, nil
	}
	return pid, func() (Exit, error) {
		defer done()
		return s.serve(ctx, conn)
	}, nil
}

// Attach connects streams to a container until its current run ends. It may come before Start
// and then sees all output; what is typed waits for the start. An end of s.Stdin closes the
// container's standard input; an end of ctx leaves it open. Attach returns when it is
// connected; wait returns when the run is over.
func (c *Client) Attach(ctx context.Context, id string, s Streams) (wait func() (Exit, error), err error) {
	conn, done, err := c.open(ctx, wire.OpAttach, id, nil, nil)
	if err != nil {
		return nil, err
	}
	return func() (Exit, error) {
		defer done()
		return s.serve(ctx, conn)
	}, nil
}

// serve moves bytes both ways until the exit comes.
func (s Streams) serve(ctx context.Context, conn *net.UnixConn) (Exit, error) {
	over := make(chan struct{})
	var up uplink
	up.conn = conn
	var work sync.WaitGroup
	if s.Resize != nil {
		work.Go(func() { up.resizes(s.Resize, over) })
	}
	if s.Stdin != nil {
		typed := make(chan struct{})
		go func() { // a read of standard input may never return; its end is then the process's
			defer close(typed)
			up.stdin(s.Stdin)
		}()
		if closer, ok := s.Stdin.(io.Closer); ok {
			work.Go(func() { // with a closer it does, and is waited for
				<-over
				closer.Close()
				<-typed
			})
		}
	}
	exit, err := s.receive(conn)
	close(over)
	conn.Close()
	work.Wait()
	if ctx.Err() != nil {
		return Exit{}, ctx.Err()
	}
	return exit, err
}

// receive writes what comes to where it goes.
func (s Streams) receive(conn *net.UnixConn) (Exit, error) {
	buf := make([]byte, 32<<10)
	for {
		kind, payload, err := wire.Read(conn, buf)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return Exit{}, lost(err)
		}
		switch kind {
		case wire.KindStdout:
			err = write(s.Stdout, payload)
		case wire.KindStderr:
			err = write(s.Stderr, payload)
		case wire.KindExit:
			var e Exit
			if err := json.Unmarshal(payload, &e); err != nil {
				return Exit{}, fmt.Errorf("read the exit of a process: %w", err)
			}
			return e, nil
		}
		if err != nil {
			return Exit{}, fmt.Errorf("pass on output: %w", err)
		}
	}
}

func write(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}

// An uplink is the caller's half of a connection; frames take turns.
type uplink struct {
	mu   sync.Mutex
	conn *net.UnixConn
}

func (u *uplink) send(kind wire.Kind, p []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return wire.Write(u.conn, kind, p)
}

func (u *uplink) stdin(r io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && u.send(wire.KindStdin, buf[:n]) != nil {
			return
		}
		if err == io.EOF {
			_ = u.send(wire.KindStdinEnd, nil)
		}
		if err != nil {
			return
		}
	}
}

func (u *uplink) resizes(sizes <-chan Size, over <-chan struct{}) {
	for {
		select {
		case s, ok := <-sizes:
			if !ok {
				return
			}
			if p, err := json.Marshal(s); err == nil {
				_ = u.send(wire.KindResize, p) // the connection's end is seen by the reader
			}
		case <-over:
			return
		}
	}
}
