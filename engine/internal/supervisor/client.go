package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"time"
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
}

var errPending = errors.New("pending")

// Start returns a client of the sampan-init that serves cfg.Dir, and starts one if none does.
func Start(ctx context.Context, cfg Config) (*Client, error) { return nil, errPending }

// Connect returns a client of the sampan-init that serves dir.
func Connect(ctx context.Context, dir string) (*Client, error) { return nil, errPending }

// Close forgets the client; sampan-init lives on.
func (c *Client) Close() error { return nil }

// Shutdown ends sampan-init. It refuses while a container runs.
func (c *Client) Shutdown(ctx context.Context) error { return errPending }

// Create makes a container known. Nothing runs yet.
func (c *Client) Create(ctx context.Context, r Request) error { return errPending }

// Prepare makes the process of a container and holds it before its program, so that the
// caller can work on the namespaces of pid. Start goes on from there.
func (c *Client) Prepare(ctx context.Context, id string) (pid int, err error) { return 0, errPending }

// Start runs the container's program and returns when the program runs, or has failed to.
func (c *Client) Start(ctx context.Context, id string) (Status, error) { return Status{}, errPending }

// Stop sends the stop signal and, when the grace period ends, SIGKILL; it returns after the
// end. No restart follows.
func (c *Client) Stop(ctx context.Context, id string, grace time.Duration) (Exit, error) {
	return Exit{}, errPending
}

// Kill sends a signal. No restart follows SIGKILL or the stop signal.
func (c *Client) Kill(ctx context.Context, id string, signal int) error { return errPending }

// Delete forgets a container that does not run; with force it is killed first. The log stays.
func (c *Client) Delete(ctx context.Context, id string, force bool) error { return errPending }

// Wait returns how the current run ends; when there is none, how the last one did.
func (c *Client) Wait(ctx context.Context, id string) (Exit, error) { return Exit{}, errPending }

// Exec runs a process and returns when it has ended and its output is delivered.
func (c *Client) Exec(ctx context.Context, id string, p Process, s Streams) (Exit, error) {
	return Exit{}, errPending
}

// Attach connects streams until the current run ends. It may come before Start and then
// sees all output. An end of s.Stdin closes the container's standard input.
func (c *Client) Attach(ctx context.Context, id string, s Streams) error { return errPending }

// Resize sets the size of the container's terminal.
func (c *Client) Resize(ctx context.Context, id string, s Size) error { return errPending }

// Pause freezes all processes of a container.
func (c *Client) Pause(ctx context.Context, id string) error { return errPending }

// Resume thaws them.
func (c *Client) Resume(ctx context.Context, id string) error { return errPending }

// Stats measures a running container.
func (c *Client) Stats(ctx context.Context, id string) (Stats, error) { return Stats{}, errPending }

// Status returns one container.
func (c *Client) Status(ctx context.Context, id string) (Status, error) { return Status{}, errPending }

// List returns all containers.
func (c *Client) List(ctx context.Context) ([]Status, error) { return nil, errPending }

// Update changes limits or the restart policy.
func (c *Client) Update(ctx context.Context, id string, u Update) error { return errPending }

// Events calls ready once when no later change can be missed, and fn for each change, until
// ctx ends (nil), fn fails, or the connection is lost.
func (c *Client) Events(ctx context.Context, ready func(), fn func(Event) error) error {
	return errPending
}
