//go:build cgo

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// answer serves one call. A bug in it must not end what all containers depend on.
func (d *Daemon) answer(conn *net.UnixConn) {
	defer conn.Close()
	defer func() {
		if p := recover(); p != nil {
			d.log.Error("a call panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	stop := d.unblock(conn)
	defer stop()
	if err := known(conn); err != nil {
		d.log.Warn("a call was refused", "err", err)
		return
	}
	kind, payload, err := wire.Read(conn, nil)
	var call wire.Call
	if err != nil || kind != wire.KindCall || json.Unmarshal(payload, &call) != nil {
		return // a port scan, or a server that died
	}
	if err := d.do(conn, call); err != nil && !errors.Is(err, errCanceled) {
		_ = wire.WriteJSON(conn, wire.KindAnswer, wire.Answer{Failure: wire.FailureOf(err)})
	}
}

// unblock ends waiting calls when the daemon ends.
func (d *Daemon) unblock(conn *net.UnixConn) (stop func()) {
	done := make(chan struct{})
	d.work.Go(func() {
		select {
		case <-d.ctx.Done():
			_ = conn.SetReadDeadline(time.Now())
		case <-done:
		}
	})
	return func() { close(done) }
}

// known lets in root and whoever the daemon runs as.
func known(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var got error
	err = raw.Control(func(fd uintptr) { cred, got = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, got); err != nil {
		return fmt.Errorf("ask who calls: %w", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not call", cred.Uid)
	}
	return nil
}

// accept answers that a call succeeded.
func accept(conn *net.UnixConn, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return wire.WriteJSON(conn, wire.KindAnswer, wire.Answer{Value: value})
}

// do serves the calls that are about no container, and finds the container of the others.
func (d *Daemon) do(conn *net.UnixConn, call wire.Call) error {
	switch call.Op {
	case wire.OpHello:
		return accept(conn, wire.Hello{Version: wire.Version, Pid: os.Getpid(), Program: d.program})
	case wire.OpShutdown:
		if err := d.shutdown(); err != nil {
			return err
		}
		return accept(conn, nil)
	case wire.OpList:
		return accept(conn, d.list())
	case wire.OpEvents:
		return d.tell(conn)
	case wire.OpCreate:
		req, err := args[supervisor.Request](call)
		if err == nil {
			err = d.create(req)
		}
		return reply(conn, err)
	}
	c, err := d.find(call.ID)
	if err != nil {
		return err
	}
	return c.do(conn, call)
}

func (c *container) do(conn *net.UnixConn, call wire.Call) error {
	switch call.Op {
	case wire.OpPrepare:
		pid, err := c.prepare()
		return replyWith(conn, pid, err)
	case wire.OpStart:
		status, err := c.start()
		return replyWith(conn, status, err)
	case wire.OpStop:
		stop, err := args[wire.Stop](call)
		if err == nil {
			err = c.stopRun(stop, c.d.hangup(conn))
		}
		return replyWith(conn, c.lastExit(), err)
	case wire.OpKill:
		n, err := args[int](call)
		if err == nil {
			err = c.signal(n)
		}
		return reply(conn, err)
	case wire.OpDelete:
		force, err := args[bool](call)
		if err == nil {
			err = c.remove(force, c.d.hangup(conn))
		}
		return reply(conn, err)
	case wire.OpWait:
		return c.wait(conn)
	}
	return c.use(conn, call)
}

// use serves the calls that need a container that runs.
func (c *container) use(conn *net.UnixConn, call wire.Call) error {
	switch call.Op {
	case wire.OpExec:
		p, err := args[supervisor.Process](call)
		if err != nil {
			return err
		}
		return c.exec(conn, p)
	case wire.OpAttach:
		return c.attach(conn)
	case wire.OpResize:
		r, err := c.running()
		if err == nil {
			if err = resize(r.console, call.Args); errors.Is(err, errNoTerminal) {
				err = fault.Conflict("container %s has no terminal", c.id)
			}
		}
		return reply(conn, err)
	case wire.OpPause:
		return reply(conn, c.pause())
	case wire.OpResume:
		return reply(conn, c.resume())
	case wire.OpPids:
		pids, err := c.pids()
		return replyWith(conn, pids, err)
	case wire.OpStats:
		s, err := c.stats()
		return replyWith(conn, s, err)
	case wire.OpStatus:
		return accept(conn, c.Status())
	case wire.OpUpdate:
		u, err := args[supervisor.Update](call)
		if err == nil {
			err = c.update(u)
		}
		return reply(conn, err)
	}
	return &fault.Fault{Kind: fault.KindUnavailable, Message: "this sampan-init does not know " + call.Op}
}

// args decodes what an operation is told.
func args[T any](call wire.Call) (v T, err error) {
	if err := json.Unmarshal(call.Args, &v); err != nil {
		return v, fault.Invalid("%s was called with what it does not understand: %w", call.Op, err)
	}
	return v, nil
}

func reply(conn *net.UnixConn, err error) error {
	if err != nil {
		return err
	}
	return accept(conn, nil)
}

func replyWith[T any](conn *net.UnixConn, v T, err error) error {
	if err != nil {
		return err
	}
	return accept(conn, v)
}

// lastExit is zero for a container that never ran.
func (c *container) lastExit() supervisor.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Exit == nil {
		return supervisor.Exit{}
	}
	return *c.status.Exit
}

// wait answers when the current run is over.
func (c *container) wait(conn *net.UnixConn) error {
	c.mu.Lock()
	r, exit := c.run, c.status.Exit
	c.mu.Unlock()
	if r == nil || r.over() {
		if exit == nil {
			return fault.Conflict("container %s has not run yet", c.id).Try("start it first")
		}
		return accept(conn, exit)
	}
	select {
	case <-r.done:
		return accept(conn, r.exit)
	case <-c.d.hangup(conn):
		return errCanceled
	}
}
