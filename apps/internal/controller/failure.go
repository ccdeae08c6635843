package controller

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/runner"
)

const (
	tailLines      = 20
	wrongPortAfter = 5 * time.Second
)

// A wrongPort is why a program that listens will never be ready.
type wrongPort string

func (w wrongPort) Error() string { return string(w) }

// ended says how an instance ended, in one sentence.
func ended(in *instance, exit runner.Exit, ready bool, limit int64) string {
	when := " before it was ready"
	if ready {
		when = ""
	}
	switch {
	case exit.OOM && limit > 0:
		return fmt.Sprintf("%s used more memory than its limit of %d MB and was killed%s", in.slot, limit>>20, when)
	case exit.OOM:
		return fmt.Sprintf("%s was killed because the machine has no memory left%s", in.slot, when)
	case exit.Code == -1:
		return fmt.Sprintf("%s ended%s, and nobody saw its status", in.slot, when)
	case exit.Code > 128:
		return fmt.Sprintf("%s was ended by signal %d%s", in.slot, exit.Code-128, when)
	}
	return fmt.Sprintf("%s exited with status %d%s", in.slot, exit.Code, when)
}

func (a *actor) memoryLimit(in *instance) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if plan := a.plans[in.release]; plan != nil {
		return plan.Processes[in.process].Limits.Memory
	}
	return 0
}

// stuck ends an instance that runs but did not become ready.
func (a *actor) stuck(ctx context.Context, in *instance, plan *Plan, err error) {
	why := a.elsewhere(ctx, in)
	if why == "" {
		check := plan.Processes[in.process].Probe
		switch {
		case check.Path != "":
			why = fmt.Sprintf("%s did not pass its health check within %s: %v", in.slot, pretty(plan.Deadline), err)
		default:
			why = fmt.Sprintf("%s does not listen on port %s within %s; listen on the port that PORT names", in.slot, portOf(in.Addr), pretty(plan.Deadline))
		}
	}
	in.tail = a.tail(ctx, in) // what it says about its end is not the reason
	if err := a.c.cfg.Runner.Stop(ctx, in.ID, 2*time.Second); err != nil && ctx.Err() == nil {
		a.c.cfg.Log.Warn("could not stop an instance that is not ready", "instance", in.Name, "err", err)
	}
	a.mu.Lock()
	wished := in.state == formation.Stopping
	a.mu.Unlock()
	if wished {
		a.over(ctx, in, runner.Exit{Code: 143, At: time.Now()})
		return
	}
	a.crashed(ctx, in, why, nil)
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// elsewhere says on which other addresses a program listens, "" when on none or on the right one.
func (a *actor) elsewhere(ctx context.Context, in *instance) string {
	listening, err := a.c.cfg.Runner.Listening(ctx, in.ID)
	if err != nil || len(listening) == 0 {
		return ""
	}
	port, err := strconv.Atoi(portOf(in.Addr))
	if err != nil {
		return ""
	}
	var others []string
	for _, at := range listening {
		switch {
		case int(at.Port()) != port:
			others = append(others, strconv.Itoa(int(at.Port())))
		case at.Addr().IsLoopback() && a.c.cfg.Runner.Traits().Isolated:
			return fmt.Sprintf("%s listens on %s only, where nobody else can reach it; listen on 0.0.0.0:%d", in.slot, at, port)
		default:
			return ""
		}
	}
	return fmt.Sprintf("%s listens on port %s, but PORT is %d; listen on the port that PORT names", in.slot, strings.Join(others, ", "), port)
}

// tail is the end of an instance's log.
func (a *actor) tail(ctx context.Context, in *instance) []string {
	lines := in.tail
	if in.ID == "" || lines != nil {
		return lines
	}
	err := a.c.cfg.Runner.Logs(ctx, in.ID, runner.LogOptions{Tail: tailLines}, func(l runner.Line) error {
		lines = append(lines, strings.TrimRight(l.Text, "\r\n"))
		return nil
	})
	if err != nil && ctx.Err() == nil {
		a.c.cfg.Log.Warn("could not read the log of a crashed instance", "instance", in.Name, "err", err)
	}
	return lines
}

// note writes to the app's log.
func (a *actor) note(ctx context.Context, text string) {
	if err := a.c.cfg.Catalog.Note(ctx, a.c.cfg.Catalog.DB(), a.id, catalog.Error, text); err != nil && ctx.Err() == nil {
		a.c.cfg.Log.Warn("could not note what happened to an app", "app", a.id, "err", err)
	}
	a.mu.Lock()
	a.notify()
	a.mu.Unlock()
}
