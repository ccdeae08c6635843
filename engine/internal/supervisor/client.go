package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// Config of a supervisor.
type Config struct {
	Dir    string // its own: socket, lock, containers
	Init   string // the path of sampan-init
	Cgroup string // the parent of its cgroups; empty: /sampan/ and a hash of Dir
	Log    *slog.Logger
}

// A Client speaks to the sampan-init of one directory.
type Client struct {
	dir string
	pid int

	program string // what sampan-init was started from
}

// Connect returns a client of the sampan-init that serves dir.
func Connect(ctx context.Context, dir string) (*Client, error) {
	c := &Client{dir: dir}
	var hello wire.Hello
	if err := c.call(ctx, wire.OpHello, "", nil, &hello); err != nil {
		return nil, err
	}
	c.pid, c.program = hello.Pid, hello.Program
	return c, nil
}

// Pid is the process of sampan-init.
func (c *Client) Pid() int { return c.pid }

// Close forgets the client; sampan-init lives on.
func (c *Client) Close() error { return nil }

// Shutdown ends sampan-init. It refuses while a container runs.
func (c *Client) Shutdown(ctx context.Context) error {
	if err := c.call(ctx, wire.OpShutdown, "", nil, nil); err != nil {
		return err
	}
	return awaitEnd(ctx, c.pid)
}

// Create makes a container known. Nothing runs yet.
func (c *Client) Create(ctx context.Context, r Request) error {
	return c.call(ctx, wire.OpCreate, "", r, nil)
}

// Prepare makes the process of a container and holds it before its program, so that the
// caller can work on the namespaces of pid. Start goes on from there.
func (c *Client) Prepare(ctx context.Context, id string) (pid int, err error) {
	return pid, c.call(ctx, wire.OpPrepare, id, nil, &pid)
}

// Start runs the container's program and returns when the program runs, or has failed to.
func (c *Client) Start(ctx context.Context, id string) (s Status, err error) {
	return s, c.call(ctx, wire.OpStart, id, nil, &s)
}

// Stop sends the stop signal and, when the grace period ends, SIGKILL; it returns after the
// end. No restart follows.
func (c *Client) Stop(ctx context.Context, id string, grace time.Duration) (Exit, error) {
	return c.StopBy(ctx, id, 0, grace)
}

// StopBy is Stop with a signal; zero is the container's own. A negative grace has no end.
func (c *Client) StopBy(ctx context.Context, id string, signal int, grace time.Duration) (e Exit, err error) {
	return e, c.call(ctx, wire.OpStop, id, wire.Stop{Signal: signal, Grace: grace}, &e)
}

// Kill sends a signal. No restart follows SIGKILL or the stop signal.
func (c *Client) Kill(ctx context.Context, id string, signal int) error {
	return c.call(ctx, wire.OpKill, id, signal, nil)
}

// Delete forgets a container that does not run; with force it is killed first. The log stays.
func (c *Client) Delete(ctx context.Context, id string, force bool) error {
	return c.call(ctx, wire.OpDelete, id, force, nil)
}

// Wait returns how the current run ends; when there is none, how the last one did.
func (c *Client) Wait(ctx context.Context, id string) (e Exit, err error) {
	return e, c.call(ctx, wire.OpWait, id, nil, &e)
}

// Resize sets the size of the container's terminal.
func (c *Client) Resize(ctx context.Context, id string, s Size) error {
	return c.call(ctx, wire.OpResize, id, s, nil)
}

// Pause freezes all processes of a container.
func (c *Client) Pause(ctx context.Context, id string) error {
	return c.call(ctx, wire.OpPause, id, nil, nil)
}

// Resume thaws them.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.call(ctx, wire.OpResume, id, nil, nil)
}

// Stats measures a running container.
func (c *Client) Stats(ctx context.Context, id string) (s Stats, err error) {
	return s, c.call(ctx, wire.OpStats, id, nil, &s)
}

// Pids are the processes of a running container, as the host numbers them.
func (c *Client) Pids(ctx context.Context, id string) (pids []int, err error) {
	return pids, c.call(ctx, wire.OpPids, id, nil, &pids)
}

// Status returns one container.
func (c *Client) Status(ctx context.Context, id string) (s Status, err error) {
	return s, c.call(ctx, wire.OpStatus, id, nil, &s)
}

// List returns all containers.
func (c *Client) List(ctx context.Context) (all []Status, err error) {
	return all, c.call(ctx, wire.OpList, "", nil, &all)
}

// Update changes limits or the restart policy.
func (c *Client) Update(ctx context.Context, id string, u Update) error {
	return c.call(ctx, wire.OpUpdate, id, u, nil)
}

// Events calls ready once when no later change can be missed, and fn for each change, until
// ctx ends (nil), fn fails, or the connection is lost.
func (c *Client) Events(ctx context.Context, ready func(), fn func(Event) error) error {
	conn, done, err := c.open(ctx, wire.OpEvents, "", nil, nil)
	if err != nil {
		return err
	}
	defer done()
	ready()
	for {
		kind, payload, err := wire.Read(conn, nil)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return lost(err)
		}
		var e Event
		if kind != wire.KindEvent || json.Unmarshal(payload, &e) != nil {
			continue // of a newer sampan-init
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

// call asks and waits for the answer.
func (c *Client) call(ctx context.Context, op, id string, args, value any) error {
	_, done, err := c.open(ctx, op, id, args, value)
	if err != nil {
		return err
	}
	done()
	return nil
}

// open asks, reads the answer into value, and leaves the connection open for what follows.
// done closes it; so does the end of ctx.
func (c *Client) open(ctx context.Context, op, id string, args, value any) (conn *net.UnixConn, done func(), err error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, nil, fmt.Errorf("encode what %s is told: %w", op, err)
	}
	conn, err = wire.Dial(c.dir)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	done = func() {
		stop()
		conn.Close()
	}
	call := wire.Call{Version: wire.Version, Op: op, ID: id, Args: raw}
	if err = wire.WriteJSON(conn, wire.KindCall, call); err == nil {
		err = answer(conn, value)
	}
	if err != nil {
		done()
		if ctx.Err() != nil {
			err = fmt.Errorf("%s container %s: %w", op, id, ctx.Err())
		}
		return nil, nil, err
	}
	return conn, done, nil
}

func answer(conn *net.UnixConn, value any) error {
	kind, payload, err := wire.Read(conn, nil)
	if err != nil {
		return lost(err)
	}
	var a wire.Answer
	if kind != wire.KindAnswer {
		return errors.New("sampan-init answered with something else")
	}
	if err := json.Unmarshal(payload, &a); err != nil {
		return fmt.Errorf("read the answer of sampan-init: %w", err)
	}
	if a.Failure != nil {
		return a.Failure.Err()
	}
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(a.Value, value); err != nil {
		return fmt.Errorf("read the answer of sampan-init: %w", err)
	}
	return nil
}

// ErrUnreachable says that no sampan-init serves the directory.
var ErrUnreachable = errors.New("sampan-init does not run")

func unreachable(err error) error {
	return fault.Unavailable("containers cannot be reached: %w", errors.Join(ErrUnreachable, err)).
		Try("restart Sampan, which starts sampan-init again")
}

func lost(err error) error {
	return fmt.Errorf("the connection to sampan-init was lost: %w", err)
}
