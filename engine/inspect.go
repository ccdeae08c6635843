package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/logfile"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

// Container tells of one.
func (e *Engine) Container(ctx context.Context, id string) (Container, error) {
	c, err := e.find(id)
	if err != nil {
		return Container{}, err
	}
	r := c.now()
	if !r.Known {
		return e.describe(r), nil
	}
	sup, err := e.supervisor(ctx)
	if err != nil {
		return Container{}, err
	}
	status, err := sup.Status(ctx, r.ID)
	if err != nil && !fault.Is(err, fault.KindNotFound) {
		return Container{}, fmt.Errorf("ask for the state of container %s: %w", r.Name, err)
	}
	return e.complete(r, status, err == nil), nil
}

// Containers lists those that have all of the labels, the oldest first. A label without a
// value asks for any value, not for its absence.
func (e *Engine) Containers(ctx context.Context, labels map[string]string) ([]Container, error) {
	records := e.all()
	known := false
	for _, r := range records {
		known = known || r.Known
	}
	statuses := map[string]supervisor.Status{}
	if known {
		sup, err := e.supervisor(ctx)
		if err != nil {
			return nil, err
		}
		list, err := sup.List(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask for the states of the containers: %w", err)
		}
		for _, status := range list {
			statuses[status.ID] = status
		}
	}
	all := make([]Container, 0, len(records))
	for _, r := range records {
		if !has(r.Spec.Labels, labels) {
			continue
		}
		status, ok := statuses[r.ID]
		all = append(all, e.complete(r, status, ok))
	}
	return all, nil
}

// has reports whether all the wanted labels are there; an empty value asks for any.
func has(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		got, there := labels[name]
		if !there || (value != "" && got != value) {
			return false
		}
	}
	return true
}

// describe is what a record says by itself.
func (e *Engine) describe(r record) Container {
	return Container{
		ID: r.ID, Name: r.Name, Spec: r.Spec, Image: r.Image, Digest: r.Digest, State: Created, Created: r.Created, Error: r.Error,
		Args: r.Args, Env: r.Env, WorkDir: r.WorkDir, User: r.User, Health: r.Health, StopSignal: unix.SignalName(syscall.Signal(r.StopSignal)),
		Volumes: r.Volumes, Dir: e.home(r.ID), Log: e.logPath(r), Execs: e.execs.of(r.ID),
	}
}

// complete adds what sampan-init knows. A container that ran and that it does not know any
// more went down with the machine.
func (e *Engine) complete(r record, s supervisor.Status, ok bool) Container {
	c := e.describe(r)
	if !ok {
		if r.Known {
			c.State, c.Exit = Exited, Exit{Code: lostExit}
		}
		return c
	}
	c.State, c.Pid, c.Started, c.Restarts, c.Stopped = State(s.State), s.Pid, s.Started, s.Restarts, s.Stopped
	if s.Exit != nil {
		c.Exit = Exit(*s.Exit)
		c.Finished = s.Exit.At
	}
	if s.Health != nil {
		c.Healthy, c.Checks = s.Health.Status, *s.Health
	}
	if s.Error != "" {
		c.Error = s.Error
	}
	if place, ok := e.networks.Place(r.ID); ok {
		c.Place = place
		if ip := place.IP(); ip.IsValid() {
			c.IP = ip.String()
		}
	}
	return c
}

// lostExit is the code of a run whose end nobody saw.
const lostExit = 255

// Stats measures a running container.
func (e *Engine) Stats(ctx context.Context, id string) (Stats, error) {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return Stats{}, err
	}
	s, err := sup.Stats(ctx, c.ID)
	if err != nil {
		return Stats{}, notRunning(c, err)
	}
	return Stats{Stats: s, Networks: e.networks.Traffic(c.ID)}, nil
}

// Processes are the numbers, on the host, of all processes in a container.
func (e *Engine) Processes(ctx context.Context, id string) ([]int, error) {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return nil, err
	}
	pids, err := sup.Pids(ctx, c.ID)
	if err != nil {
		return nil, notRunning(c, err)
	}
	return pids, nil
}

// Logs calls fn for each line that o asks for.
func (e *Engine) Logs(ctx context.Context, id string, o LogOptions, fn func(Line) error) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	r := c.now()
	if r.Spec.Logs.None {
		return fault.Conflict("container %s keeps no log", r.Name).Try("create it with a log, or attach to it")
	}
	files := r.Spec.Logs.Files
	if files == 0 {
		files = 3
	}
	options := logfile.Options{Tail: o.Tail, Since: o.Since, Until: o.Until}
	if o.Follow {
		sup, err := e.supervisor(ctx)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		ended, wait := follow(ctx, sup, r.ID)
		defer wait()
		defer cancel()
		options.Follow = ended
	}
	return logfile.File{Path: e.logPath(r), Files: files}.Read(ctx, options, fn)
}

// errEnded stops the hearing of events.
var errEnded = errors.New("the container has ended")

// follow returns what is closed when nothing more will be written to a container's log: its
// last run is over, it is removed, or nobody can tell any more.
func follow(ctx context.Context, sup *supervisor.Client, id string) (ended <-chan struct{}, wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		over := func() {
			// Asked when no later event can be missed.
			if status, err := sup.Status(ctx, id); err == nil && status.State == supervisor.Exited {
				cancel()
			}
		}
		_ = sup.Events(ctx, over, func(ev supervisor.Event) error {
			if ev.Status.ID == id && (ev.Action == supervisor.OnDelete || ev.Status.State == supervisor.Exited) {
				return errEnded
			}
			return nil
		})
	}()
	return done, func() { <-done }
}
