package engine

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/moby/sys/mountinfo"

	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

// adopt goes on with the containers that the last process left, and removes what it left half.
func (e *Engine) adopt(ctx context.Context) error {
	records, left, err := e.records()
	if err != nil {
		return err
	}
	mounted, err := e.mountpoints()
	if err != nil {
		return err
	}
	known := false
	for _, r := range records {
		c := newContainer(r)
		c.mounted = mounted[e.home(r.ID)+"/rootfs"]
		e.containers[r.ID], e.names[r.Name] = c, r.ID
		known = known || r.Known
	}
	var running []string
	if known {
		if running, err = e.running(ctx); err != nil {
			return err
		}
	}
	for _, id := range left {
		e.log.Warn("the rest of a container is removed", "container", id)
		e.work.Go(func() {
			if err := e.discard(context.WithoutCancel(ctx), id); err != nil {
				e.log.Error("the rest of a container stays until the next start", "container", id, "err", err)
			}
		})
	}
	for dir := range mounted {
		if e.stale(dir, running) {
			if err := store.Unmount(dir); err != nil {
				return err
			}
			_ = os.Remove(dir) // what is mounted at a file or below another mount stays for later
		}
	}
	// A container whose network cannot be served must not keep the others from being found.
	if err := e.networks.Keep(running); err != nil {
		e.log.Error("the networks of running containers are not complete", "err", err)
	}
	return nil
}

// running asks sampan-init which containers are in a run, and makes it forget those that
// have no record.
func (e *Engine) running(ctx context.Context) ([]string, error) {
	sup, err := e.supervisor(ctx)
	if err != nil {
		return nil, err
	}
	list, err := sup.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the states of the containers: %w", err)
	}
	var running []string
	known := map[string]bool{}
	for _, status := range list {
		known[status.ID] = true
		c, ok := e.containers[status.ID]
		if !ok {
			if err := sup.Delete(ctx, status.ID, true); err != nil && !fault.Is(err, fault.KindNotFound) {
				return nil, fmt.Errorf("end a container that has no record: %w", err)
			}
			continue
		}
		switch {
		case active(status.State):
			running = append(running, c.ID)
		case status.State == supervisor.Created:
			// It was made ready for a start that did not come; its network is gone.
			if err := sup.Delete(ctx, c.ID, true); err != nil && !fault.Is(err, fault.KindNotFound) {
				return nil, fmt.Errorf("forget a container that was not started: %w", err)
			}
			if err := e.change(c, func(r *record) { r.Known = false }); err != nil {
				return nil, err
			}
		case status.State == supervisor.Exited && c.Spec.AutoRemove:
			e.work.Go(func() { e.retire(c) }) // it ended while nobody listened
		}
	}
	for id, c := range e.containers {
		if c.Known && !known[id] && c.Spec.AutoRemove {
			e.work.Go(func() { e.retire(c) }) // it went down with the machine
		}
	}
	return running, nil
}

// stale says of a mount that a crash left it: one to read an image or the files of a container
// that does not run, and what a container had only while it ran.
func (e *Engine) stale(dir string, running []string) bool {
	if within(dir, e.views()) {
		return true
	}
	for id := range e.containers {
		if within(dir, e.side(id)) {
			return !slices.Contains(running, id)
		}
	}
	return false
}

func (e *Engine) mountpoints() (map[string]bool, error) {
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(e.dir))
	if err != nil {
		return nil, fmt.Errorf("list the mounts below %s: %w", e.dir, err)
	}
	points := make(map[string]bool, len(list))
	for _, m := range list {
		points[m.Mountpoint] = true
	}
	return points, nil
}

func within(path, dir string) bool {
	return len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}

// revive starts what should run and does not: the machine was off.
func (e *Engine) revive(ctx context.Context) error {
	list, err := e.Containers(ctx, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for _, now := range list {
		c, err := e.find(now.ID)
		if err != nil {
			continue
		}
		r := c.now()
		lost := now.State == Exited && now.Exit.Code == lostExit || now.State == Created
		if !r.lasting() || !r.Wanted || !lost {
			continue
		}
		if err := e.Start(ctx, r.ID); err != nil && ctx.Err() == nil {
			e.log.Error("a container that should run could not be started", "container", r.Name, "err", err)
		}
	}
	return nil
}

// listen passes on what sampan-init tells, over its deaths and ours.
func (e *Engine) listen(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.started:
		}
		e.starting.Lock()
		sup := e.client
		e.starting.Unlock()
		if sup == nil {
			continue
		}
		err := sup.Events(ctx, func() {}, e.hear)
		if ctx.Err() != nil {
			return nil
		}
		if !e.lost(sup) {
			return nil
		}
		e.log.Error("sampan-init is gone; it is started again", "err", err)
		if err := e.again(ctx); err != nil {
			return err
		}
	}
}

// again starts sampan-init anew, which finds its containers by itself.
func (e *Engine) again(ctx context.Context) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Minute) {
		_, err := e.supervisor(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		e.log.Error("sampan-init does not start", "err", err, "again", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// hear is called for each event of sampan-init.
func (e *Engine) hear(ev supervisor.Event) error {
	c, err := e.find(ev.Status.ID)
	if err != nil {
		return nil // removed meanwhile
	}
	out := e.event(c.now(), ev.Action, State(ev.Status.State))
	out.Time = ev.Time
	switch ev.Action {
	case supervisor.OnCreate, supervisor.OnDelete, supervisor.OnUpdate:
		return nil // those who asked for it tell of these
	case supervisor.OnDie:
		if ev.Status.Exit != nil {
			x := Exit(*ev.Status.Exit)
			out.Exit, out.Attributes["exitCode"] = &x, code(x)
			out.Attributes["execDuration"] = strconv.Itoa(int(x.At.Sub(ev.Status.Started) / time.Second))
		}
		if ev.Status.State == supervisor.Exited {
			e.work.Go(func() { e.retire(c) })
		}
	case supervisor.OnRestart:
		out.Action = "retry" // Docker's "restart" is that somebody asked for one
	case supervisor.OnHealth:
		if ev.Status.Health != nil {
			out.Action += ": " + ev.Status.Health.Status
		}
	case supervisor.OnExecDie:
		e.execs.mu.Lock()
		x := e.execs.all[ev.Exec]
		e.execs.mu.Unlock()
		if x != nil {
			e.left(x, Exit{Code: ev.Code, At: ev.Time})
		}
		return nil
	}
	e.hub.send(out)
	return nil
}

// retire gives back the address and the ports of a container whose last run is over, or removes
// one that was made for one run.
func (e *Engine) retire(c *container) {
	ctx := context.Background()
	free, err := c.hold(ctx)
	if err != nil {
		return // removed
	}
	defer free()
	now, err := e.Container(ctx, c.ID)
	if err != nil || now.State != Exited {
		return // removed, or started again
	}
	c.mu.Lock()
	again := c.restarting > 0
	c.mu.Unlock()
	if now.Spec.AutoRemove && !again {
		err = e.remove(ctx, c, RemoveOptions{Volumes: true})
	} else {
		err = e.leave(c)
	}
	if err != nil && !fault.Is(err, fault.KindNotFound) {
		e.log.Error("what an ended container had could not be freed", "container", c.now().Name, "err", err)
	}
}
