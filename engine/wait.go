package engine

import (
	"context"
	"errors"

	"sampan.dev/sampan/internal/fault"
)

// What WaitFor waits for.
const (
	NotRunning = "not-running" // also true of one that was never started
	NextExit   = "next-exit"
	Removed    = "removed"
)

// Wait returns how the current run ends, or how the last one did.
func (e *Engine) Wait(ctx context.Context, id string) (Exit, error) {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return Exit{}, err
	}
	exit, err := sup.Wait(ctx, c.ID)
	return Exit(exit), err
}

// errHappened ends the hearing of events.
var errHappened = errors.New("what was waited for has happened")

// WaitFor begins to wait; what happens after it returned is not missed. wait returns the last
// exit when condition holds.
func (e *Engine) WaitFor(ctx context.Context, id, condition string) (wait func() (Exit, error), err error) {
	switch condition {
	case NotRunning, NextExit, Removed:
	default:
		return nil, fault.Invalid("one cannot wait for %q", condition).Try("use not-running, next-exit or removed")
	}
	l := e.hub.listen()
	now, err := e.Container(ctx, id)
	if err != nil {
		e.hub.leave(l)
		return nil, err
	}
	if condition == NotRunning && (now.State == Exited || now.State == Created) {
		e.hub.leave(l)
		return func() (Exit, error) { return now.Exit, nil }, nil
	}
	return func() (Exit, error) {
		defer e.hub.leave(l)
		last := now.Exit
		err := e.hub.each(ctx, l, func(ev Event) error {
			if ev.Type != "container" || ev.ID != now.ID {
				return nil
			}
			if ev.Exit != nil {
				last = *ev.Exit
			}
			over := ev.Action == "die" && (condition == NextExit || condition == NotRunning && ev.State == Exited)
			if over || ev.Action == "destroy" {
				return errHappened
			}
			return nil
		})
		switch {
		case errors.Is(err, errHappened):
			return last, nil
		case err == nil:
			return last, fault.Unavailable("the engine is stopping").Try("ask again")
		}
		return last, err
	}, nil
}
