package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

// known finds a container that has been started, and who runs it.
func (e *Engine) known(ctx context.Context, id string) (*container, *supervisor.Client, error) {
	c, err := e.find(id)
	if err != nil {
		return nil, nil, err
	}
	if !c.now().Known {
		return nil, nil, fault.Conflict("container %s is not running", c.now().Name).Try("start it first")
	}
	sup, err := e.supervisor(ctx)
	return c, sup, err
}

// Stop sends a signal, "" for the container's own, and when grace is over SIGKILL. A grace of
// zero is the container's own, a negative one has no end. It returns after the end.
func (e *Engine) Stop(ctx context.Context, id, signal string, grace time.Duration) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if !c.now().Known {
		return nil // it never ran
	}
	number := 0
	if signal != "" {
		s, err := signalOf(signal)
		if err != nil {
			return err
		}
		number = int(s)
	}
	sup, err := e.supervisor(ctx)
	if err != nil {
		return err
	}
	if err := e.change(c, func(r *record) { r.Wanted = false }); err != nil {
		return err
	}
	// Others may act meanwhile: the grace can be long, and rm -f ends it.
	grace = cmp.Or(grace, c.now().Spec.StopTimeout, 10*time.Second)
	if _, err := sup.StopBy(ctx, c.ID, number, grace); err != nil && !fault.Is(err, fault.KindNotFound) {
		return fmt.Errorf("stop container %s: %w", c.now().Name, err)
	}
	e.report(c.now(), "stop", Exited)
	e.retire(c)
	return nil
}

// Restart stops a container if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, id, signal string, grace time.Duration) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.restarting++ // so that its end is not the last one
	c.mu.Unlock()
	err = e.Stop(ctx, c.ID, signal, grace)
	c.mu.Lock()
	c.restarting--
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := e.Start(ctx, c.ID); err != nil {
		return err
	}
	e.report(c.now(), "restart", Running)
	return nil
}

// Kill sends a signal, by name or number. After SIGKILL and the stop signal no restart follows.
func (e *Engine) Kill(ctx context.Context, id, name string) error {
	number, err := signalOf(cmp.Or(name, "SIGKILL"))
	if err != nil {
		return err
	}
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return err
	}
	if err := sup.Kill(ctx, c.ID, int(number)); err != nil {
		return notRunning(c, err)
	}
	e.report(c.now(), "kill", Running, "signal", fmt.Sprint(int(number)))
	return nil
}

// notRunning says by name what sampan-init says of a number.
func notRunning(c *container, err error) error {
	if fault.Is(err, fault.KindConflict) || fault.Is(err, fault.KindNotFound) {
		return fault.Conflict("container %s is not running", c.now().Name).Try("start it first")
	}
	return err
}

// Pause freezes all processes of a container.
func (e *Engine) Pause(ctx context.Context, id string) error {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return err
	}
	return sup.Pause(ctx, c.ID)
}

// Resume thaws them.
func (e *Engine) Resume(ctx context.Context, id string) error {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return err
	}
	return sup.Resume(ctx, c.ID)
}

// Rename gives a container another name, by which others find it from its next start on.
func (e *Engine) Rename(ctx context.Context, id, name string) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	if !nameRule().MatchString(name) {
		return errName(name)
	}
	free, err := c.hold(ctx)
	if err != nil {
		return err
	}
	defer free()
	old := c.now().Name
	if err := e.rename(c, name); err != nil {
		return err
	}
	e.report(c.now(), "rename", "", "oldName", "/"+old)
	return nil
}

func (e *Engine) rename(c *container, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if other, ok := e.names[name]; ok {
		return fault.Conflict("container %.12s has the name %s", other, name).Try("choose another name").On("name")
	}
	old := c.now().Name
	if err := e.change(c, func(r *record) { r.Name, r.Spec.Name = name, name }); err != nil {
		return err
	}
	delete(e.names, old)
	e.names[name] = c.ID
	return nil
}

// An Update changes what holds of a container, also while it runs. What is nil stays.
type Update struct {
	Limits  *Limits // all of them
	Restart *Restart
}

// Update changes a container.
func (e *Engine) Update(ctx context.Context, id string, u Update) error {
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	var change supervisor.Update
	if u.Limits != nil {
		if change.Resources, err = spec.Resources(*u.Limits); err != nil {
			return err
		}
	}
	if u.Restart != nil {
		if err := checkRestart(*u.Restart); err != nil {
			return err
		}
		if c.now().Spec.AutoRemove && u.Restart.Policy != "" && u.Restart.Policy != RestartNo {
			return fault.Conflict("container %s is removed at its end, so it cannot be restarted", c.now().Name)
		}
		policy := supervisor.Restart(*u.Restart)
		change.Restart = &policy
	}
	if err := e.pass(ctx, c, change); err != nil {
		return err
	}
	err = e.change(c, func(r *record) {
		if u.Limits != nil {
			r.Spec.Limits = *u.Limits
		}
		if u.Restart != nil {
			r.Spec.Restart = *u.Restart
		}
	})
	if err == nil {
		e.report(c.now(), "update", "")
	}
	return err
}

// pass tells sampan-init of a change, if it knows the container.
func (e *Engine) pass(ctx context.Context, c *container, change supervisor.Update) error {
	if !c.now().Known {
		return nil
	}
	sup, err := e.supervisor(ctx)
	if err != nil {
		return err
	}
	if err := sup.Update(ctx, c.ID, change); err != nil && !fault.Is(err, fault.KindNotFound) {
		return fmt.Errorf("change container %s: %w", c.now().Name, err)
	}
	return nil
}

// Resize sets the size of a container's terminal.
func (e *Engine) Resize(ctx context.Context, id string, size Size) error {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return err
	}
	return sup.Resize(ctx, c.ID, size)
}

// Attach connects streams to a container and returns; wait returns when the run is over. It
// may come before Start, and then sees all output.
func (e *Engine) Attach(ctx context.Context, id string, s Streams) (wait func() (Exit, error), err error) {
	c, err := e.find(id)
	if err != nil {
		return nil, err
	}
	sup, err := e.supervisor(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.ready(ctx, sup, c); err != nil {
		return nil, err
	}
	over, err := sup.Attach(ctx, c.ID, s)
	if err != nil {
		return nil, err
	}
	e.report(c.now(), "attach", "")
	return func() (Exit, error) {
		exit, err := over()
		return Exit(exit), err
	}, nil
}

// ready prepares a container that was never started.
func (e *Engine) ready(ctx context.Context, sup *supervisor.Client, c *container) error {
	free, err := c.hold(ctx)
	if err != nil {
		return err
	}
	defer free()
	ctx = context.WithoutCancel(ctx)
	before, err := e.renew(ctx, sup, c)
	if err != nil || before != nothing {
		return err
	}
	return e.prepare(ctx, sup, c)
}

// RemoveOptions say how to remove a container.
type RemoveOptions struct {
	Force   bool // kill it first
	Volumes bool // and those of its volumes that nobody named
}

// Remove forgets a container: its root directory, log and network. One that runs is killed
// first with force, and refused without.
func (e *Engine) Remove(ctx context.Context, id string, o RemoveOptions) error {
	c, free, err := e.take(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	return e.remove(context.WithoutCancel(ctx), c, o) // half a removal is worse than a late one
}

// remove is Remove for who holds life.
func (e *Engine) remove(ctx context.Context, c *container, o RemoveOptions) error {
	if c.now().Known {
		if err := e.dismiss(ctx, c, o.Force); err != nil {
			return err
		}
	}
	c.mu.Lock()
	gone := c.gone
	c.gone = true
	c.mu.Unlock()
	if gone {
		return fault.NotFound("container %s was just removed", c.Name)
	}
	// From here on it is gone: what is left of it has no record, and goes at the next start
	// if not now.
	r := c.record
	err := errors.Join(e.leave(c), os.Remove(filepath.Join(e.home(c.ID), recordFile)))
	e.release(c)
	e.execs.forget(c.ID, 0)
	if o.Volumes {
		err = errors.Join(err, e.removeAnonymous(ctx, r))
	}
	e.work.Go(func() { e.clear(r) })
	e.report(r, "destroy", Exited)
	return err
}

// dismiss makes sampan-init forget a container.
func (e *Engine) dismiss(ctx context.Context, c *container, force bool) error {
	sup, err := e.supervisor(ctx)
	if err != nil {
		return err
	}
	if !force {
		status, err := sup.Status(ctx, c.ID)
		if err == nil && active(status.State) {
			return fault.Conflict("container %s is %s", c.now().Name, status.State).Try("stop it first, or remove it by force")
		}
	}
	if err := sup.Delete(ctx, c.ID, force); err != nil && !fault.Is(err, fault.KindNotFound) {
		return fmt.Errorf("remove container %s: %w", c.now().Name, err)
	}
	return nil
}

// removeAnonymous removes the volumes of a container that nobody named, and no other one has.
func (e *Engine) removeAnonymous(ctx context.Context, r record) error {
	users := e.VolumeUsers(ctx)
	var errs []error
	for _, m := range r.Volumes {
		if m.Anonymous && users[m.Source] == 0 {
			if err := e.volumes.Remove(m.Source); err != nil && !fault.Is(err, fault.KindNotFound) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// clear frees what a container leaves behind.
func (e *Engine) clear(r record) {
	ctx := context.Background() // it must end, whoever has asked for it
	errs := []error{e.discard(ctx, r.ID)}
	if _, err := e.images.Image(ctx, r.Image); fault.Is(err, fault.KindNotFound) {
		errs = append(errs, e.sweep(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		e.log.Error("parts of a removed container stay until the next start", "container", r.Name, "err", err)
	}
}

// discard unmounts and deletes the directory of a container.
func (e *Engine) discard(ctx context.Context, id string) error {
	if err := unmountBelow(e.side(id)); err != nil {
		return err
	}
	if err := store.Unmount(filepath.Join(e.home(id), "rootfs")); err != nil {
		return err
	}
	if err := e.store.Forget(ctx, id); err != nil {
		return err
	}
	if err := os.RemoveAll(e.home(id)); err != nil {
		return fmt.Errorf("remove the directory of container %.12s: %w", id, err)
	}
	return nil
}
