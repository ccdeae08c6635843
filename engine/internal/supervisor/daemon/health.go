//go:build cgo

package daemon

import (
	"cmp"
	"sync"
	"time"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// Docker's defaults.
const (
	healthInterval = 30 * time.Second
	healthTimeout  = 30 * time.Second
	startInterval  = 5 * time.Second
	healthRetries  = 3
	keptChecks     = 5
	keptOutput     = 4 << 10
)

// watchHealth begins the checks of a run. It is called with mu held.
func (c *container) watchHealth(r *run) {
	c.status.Health = nil
	h := c.req.Health
	if h == nil || len(h.Command) == 0 {
		return
	}
	c.status.Health = &supervisor.Healthy{Status: supervisor.Starting}
	conf, born := *h, time.Now()
	c.d.work.Go(func() { c.checkHealth(r, conf, born) })
}

func (c *container) checkHealth(r *run, h supervisor.Health, born time.Time) {
	timer := time.NewTimer(c.untilNext(h, born))
	defer timer.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-c.d.ctx.Done():
			return
		case <-timer.C:
		}
		if result, ok := c.check(r, h); ok {
			c.judge(r, h, result, time.Since(born) < h.StartPeriod)
		}
		timer.Reset(c.untilNext(h, born))
	}
}

// untilNext is shorter while a container starts.
func (c *container) untilNext(h supervisor.Health, born time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins := c.status.Health != nil && c.status.Health.Status == supervisor.Starting
	if begins && time.Since(born) < h.StartPeriod {
		return cmp.Or(h.StartInterval, startInterval)
	}
	return cmp.Or(h.Interval, healthInterval)
}

// check runs the command once; a paused container is left alone.
func (c *container) check(r *run, h supervisor.Health) (supervisor.Check, bool) {
	result := supervisor.Check{Start: time.Now(), Code: -1}
	spec := c.request().Spec.Process
	g, err := c.enter(supervisor.Process{Args: h.Command, Env: spec.Env, User: &spec.User})
	if fault.Is(err, fault.KindConflict) {
		return result, false
	}
	if err != nil {
		result.End, result.Output = time.Now(), err.Error()
		return result, true
	}
	defer g.close()
	g.stdin.close()
	late := false
	timer := time.AfterFunc(cmp.Or(h.Timeout, healthTimeout), func() { g.kill() })
	var mu sync.Mutex
	var output []byte
	code := g.copyOut(func(_ wire.Kind, p []byte) error {
		mu.Lock()
		defer mu.Unlock()
		output = append(output, p[:min(len(p), keptOutput-len(output))]...)
		return nil
	})
	late = !timer.Stop()
	result.End, result.Code, result.Output = time.Now(), code, string(output)
	if late {
		result.Code, result.Output = -1, "the check took too long\n"+result.Output
	}
	return result, true
}

// judge counts the result. In the start period a failure does not count; a success ends it.
func (c *container) judge(r *run, h supervisor.Health, result supervisor.Check, early bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != r || r.over() || c.status.Health == nil {
		return
	}
	before := c.status.Health
	now := *before // a snapshot may be in somebody's hands
	now.Checks = append(append([]supervisor.Check{}, before.Checks...), result)
	now.Checks = now.Checks[max(0, len(now.Checks)-keptChecks):]
	switch {
	case result.Code == 0:
		now.Failures, now.Status = 0, supervisor.IsHealthy
	case early && before.Status == supervisor.Starting:
	default:
		if now.Failures++; now.Failures >= cmp.Or(h.Retries, healthRetries) {
			now.Status = supervisor.Unhealthy
		}
	}
	c.status.Health = &now
	if now.Status != before.Status {
		c.announce(supervisor.OnHealth)
	}
}
