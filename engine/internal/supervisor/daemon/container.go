//go:build cgo

package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/engine/internal/supervisor/logfile"
	"sampan.dev/sampan/internal/fault"
)

// A container is what one Request asked for, through all of its runs.
type container struct {
	id  string
	d   *Daemon
	dir string

	op sync.Mutex // one of start, delete, pause, resume and update at a time

	mu      sync.Mutex
	req     supervisor.Request
	status  supervisor.Status
	run     *run // the current or last one
	log     *logfile.Writer
	retry   *time.Timer // the next try, while the state is Restarting
	backoff time.Duration
	sinks   map[*sink]struct{}
	deleted bool

	launched sync.Once
	ready    chan struct{} // closed when the first process is there, with its standard input
}

func newContainer(d *Daemon, r supervisor.Request) *container {
	return &container{
		id: r.ID, d: d, dir: filepath.Join(d.dir, "containers", r.ID), req: r,
		status: supervisor.Status{ID: r.ID, State: supervisor.Created},
		sinks:  map[*sink]struct{}{},
		ready:  make(chan struct{}),
	}
}

// Status is a copy.
func (c *container) Status() supervisor.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshot()
}

func (c *container) snapshot() supervisor.Status {
	s := c.status
	if c.log != nil {
		s.Lost = c.log.Lost()
	}
	return s
}

func (c *container) request() supervisor.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.req
}

// change alters the status, keeps it and tells of it.
func (c *container) change(action string, alter func(*supervisor.Status)) supervisor.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	alter(&c.status)
	c.announce(action)
	return c.snapshot()
}

// announce is called with mu held, or before anybody else knows the container: events keep
// the order of the changes.
func (c *container) announce(action string) {
	c.status.Version++
	s := c.snapshot()
	if action != supervisor.OnDelete {
		if err := c.saveStatus(s); err != nil { // the next daemon would know less; this one goes on
			c.d.log.Warn("keep a status", "container", c.id, "err", err)
		}
	}
	c.d.events.publish(supervisor.Event{Time: time.Now(), Action: action, Status: s})
}

// alive reports whether a process of the container exists or will.
func (c *container) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status.State == supervisor.Restarting || c.run != nil && !c.run.over()
}

// running returns the run of a container that runs.
func (c *container) running() (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.State == supervisor.Paused {
		return nil, fault.Conflict("container %s is paused", c.id).Try("resume it first")
	}
	if c.status.State != supervisor.Running || c.run == nil || c.run.over() {
		return nil, fault.Conflict("container %s does not run", c.id).Try("start it first")
	}
	return c.run, nil
}

// prepare makes the process and holds it before its program.
func (c *container) prepare() (int, error) {
	c.op.Lock()
	defer c.op.Unlock()
	r, err := c.hold()
	if err != nil {
		return 0, err
	}
	return r.pid, nil
}

// hold is called with op held.
func (c *container) hold() (*run, error) {
	c.mu.Lock()
	switch r := c.run; {
	case c.deleted:
		c.mu.Unlock()
		return nil, fault.NotFound("there is no container %s", c.id)
	case r != nil && !r.over() && r.phase == held:
		c.mu.Unlock()
		return r, nil
	case r != nil && !r.over():
		c.mu.Unlock()
		return nil, fault.Conflict("container %s runs already", c.id)
	}
	c.mu.Unlock()
	return c.launch()
}

// start runs the program. What makes it fail is also kept in the status.
func (c *container) start() (supervisor.Status, error) {
	c.op.Lock()
	defer c.op.Unlock()
	c.cancelRetry()
	c.mu.Lock()
	c.status.Stopped, c.status.Restarts, c.backoff = false, 0, 0
	c.mu.Unlock()
	err := c.begin()
	return c.Status(), err
}

// begin is called with op held.
func (c *container) begin() error {
	r, err := c.hold()
	if err != nil {
		if !fault.Is(err, fault.KindConflict) && !fault.Is(err, fault.KindNotFound) {
			c.failed(err)
		}
		return err
	}
	if !c.release(r) {
		<-r.done
		return fault.Conflict("container %s was ended before its program began", c.id)
	}
	err = r.start()
	c.mu.Lock()
	if err != nil {
		r.phase = failed
		c.status.Error = err.Error()
	} else {
		r.phase = begun
		c.status.State, c.status.Pid, c.status.Started = supervisor.Running, r.pid, time.Now()
		c.status.Error, c.status.OOMs = "", 0
		c.watchHealth(r)
		c.announce(supervisor.OnStart)
	}
	close(r.settled)
	c.mu.Unlock()
	if err != nil {
		<-r.done
	}
	return err
}

// release moves a held process on; false if it has died meanwhile.
func (c *container) release(r *run) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.phase != held {
		return false
	}
	r.phase = releasing
	return true
}

// failed keeps why no process could be made.
func (c *container) failed(err error) {
	c.change(supervisor.OnDie, func(s *supervisor.Status) {
		s.State, s.Pid, s.Error = supervisor.Exited, 0, err.Error()
		s.Exit = &supervisor.Exit{Code: exitNotStarted, At: time.Now()}
	})
}

// exitNotStarted is Docker's code for a container that could not be started.
const exitNotStarted = 128

// ended is called by the run when its process is gone and all its output delivered.
func (c *container) ended(r *run, exit supervisor.Exit) {
	c.mu.Lock()
	s := &c.status
	s.State, s.Pid, s.Exit, s.Health = supervisor.Exited, 0, &exit, nil
	again := r.phase == begun && c.again(r, exit)
	if r.phase == stillborn {
		s.Error = "ended before its program began"
	}
	c.endSinks(exit)
	c.announce(supervisor.OnDie)
	if again {
		c.plan()
	}
	r.exit = exit
	close(r.done)
	c.mu.Unlock()
}

// signal sends one; after those that mean the end no restart follows.
func (c *container) signal(n int) error {
	sig := unix.Signal(n)
	if n < 1 || n > 64 {
		return fault.Invalid("%d is not a signal", n)
	}
	c.mu.Lock()
	r, waits := c.run, c.status.State == supervisor.Restarting
	c.mu.Unlock()
	if sig == unix.SIGKILL || n == c.stopSignal() {
		if r = c.noMoreRuns(); waits && r == nil {
			return nil
		}
	}
	if r == nil || r.over() {
		return fault.Conflict("container %s does not run", c.id)
	}
	if err := r.kill(sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal container %s: %w", c.id, err)
	}
	return nil
}

func (c *container) stopSignal() int {
	if n := c.request().StopSignal; n != 0 {
		return n
	}
	return int(unix.SIGTERM)
}

// noMoreRuns forbids restarts and returns the run that goes on, nil if there is none. A try
// that has begun is waited for: it is that run, then.
func (c *container) noMoreRuns() *run {
	c.mu.Lock()
	c.status.Stopped = true
	c.mu.Unlock()
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Stopped = true // a start may have come between
	if c.status.State == supervisor.Restarting {
		c.dropRetry()
		c.status.State = supervisor.Exited
		c.announce(supervisor.OnDie)
	}
	if c.run == nil || c.run.over() {
		return nil
	}
	return c.run
}

// stopRun ends the current run: politely first, for as long as grace lasts.
func (c *container) stopRun(how wire.Stop, cancel <-chan struct{}) error {
	r := c.noMoreRuns()
	if r == nil {
		return nil
	}
	if how.Grace != 0 {
		_ = r.kill(unix.Signal(cmp.Or(how.Signal, c.stopSignal())))
		var over <-chan time.Time // never, when the grace has no end
		if how.Grace > 0 {
			timer := time.NewTimer(how.Grace)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-r.done:
			return nil
		case <-cancel: // the caller gave up waiting; the container keeps its chance
			return errCanceled
		case <-over:
		}
	}
	if err := r.kill(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill container %s: %w", c.id, err)
	}
	select {
	case <-r.done:
		return nil
	case <-cancel:
		return errCanceled
	}
}

var errCanceled = errors.New("the caller is gone")

// remove forgets the container.
func (c *container) remove(force bool, cancel <-chan struct{}) error {
	if c.alive() {
		if !force {
			return fault.Conflict("container %s runs", c.id).Try("stop it first")
		}
		if err := c.stopRun(wire.Stop{}, cancel); err != nil {
			return err
		}
	}
	c.op.Lock()
	defer c.op.Unlock()
	if c.alive() {
		return fault.Conflict("container %s was started meanwhile", c.id)
	}
	if err := c.erase(); err != nil {
		return fmt.Errorf("forget container %s: %w", c.id, err)
	}
	c.d.mu.Lock()
	delete(c.d.containers, c.id)
	c.d.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deleted = true
	if c.log != nil {
		c.log.Close()
	}
	c.endSinks(supervisor.Exit{Code: exitNotStarted, At: time.Now()})
	c.announce(supervisor.OnDelete)
	return nil
}
