//go:build cgo

package daemon

import (
	"time"

	"sampan.dev/sampan/engine/internal/supervisor"
)

// Docker's pauses between tries.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	longRun    = 10 * time.Second // after which the pauses start over
)

// again decides, with mu held, whether the policy wants another run.
func (c *container) again(r *run, exit supervisor.Exit) bool {
	if c.status.Stopped || c.deleted {
		return false
	}
	if exit.At.Sub(c.status.Started) >= longRun {
		c.backoff = 0
	}
	return wants(c.req.Restart, exit.Code, c.status.Restarts)
}

func wants(p supervisor.Restart, code, tries int) bool {
	switch p.Policy {
	case supervisor.RestartAlways, supervisor.RestartUnlessStopped:
		return true
	case supervisor.RestartOnFailure:
		return code != 0 && (p.Max == 0 || tries < p.Max)
	}
	return false
}

// plan sets the timer for the next try, with mu held.
func (c *container) plan() {
	c.backoff = min(max(2*c.backoff, firstPause), lastPause)
	c.status.State = supervisor.Restarting
	c.status.Restarts++
	c.retry = time.AfterFunc(c.backoff, c.tryAgain)
	c.announce(supervisor.OnRestart)
}

// tryAgain runs when the pause is over.
func (c *container) tryAgain() {
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	mine := c.retry != nil && !c.status.Stopped && !c.deleted
	c.retry = nil
	c.mu.Unlock()
	if !mine {
		return
	}
	if err := c.begin(); err != nil {
		c.d.log.Info("a restart failed", "container", c.id, "err", err)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.status.Stopped && wants(c.req.Restart, exitNotStarted, c.status.Restarts) {
			c.plan()
		}
	}
}

// cancelRetry gives up the next try for one that is made now.
func (c *container) cancelRetry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropRetry()
}

// dropRetry is called with mu held. A try that waits for op already finds that it is not due.
func (c *container) dropRetry() {
	if c.retry != nil {
		c.retry.Stop()
		c.retry = nil
	}
}
