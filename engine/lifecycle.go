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
		return nil, nil, fault.Conflict("container %s has not been started", c.Name).Try("start it first")
	}
	sup, err := e.supervisor(ctx)
	return c, sup, err
}

// Stop sends the stop signal and, when grace is over, SIGKILL; zero is the container's own
// grace. It returns after the end.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		if c, ferr := e.find(id); ferr == nil && !c.now().Known {
			return nil // it never ran
		}
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
	if err := e.change(c, func(r *record) { r.Wanted = false }); err != nil {
		return err
	}
	grace = cmp.Or(grace, c.now().Spec.StopTimeout, 10*time.Second)
	if _, err := sup.Stop(ctx, c.ID, grace); err != nil {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	return e.networks.Leave(c.ID)
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
	return sup.Kill(ctx, c.ID, int(number))
}

// Wait returns how the current run ends, or how the last one did.
func (e *Engine) Wait(ctx context.Context, id string) (Exit, error) {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return Exit{}, err
	}
	exit, err := sup.Wait(ctx, c.ID)
	return Exit(exit), err
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
	return func() (Exit, error) {
		exit, err := over()
		return Exit(exit), err
	}, nil
}

// ready prepares a container that was never started.
func (e *Engine) ready(ctx context.Context, sup *supervisor.Client, c *container) error {
	c.life.Lock()
	defer c.life.Unlock()
	if c.now().Known {
		return nil
	}
	return e.prepare(ctx, sup, c)
}

// Exec runs a further process in a running container and returns when it has ended. It gets
// the container's environment, user and directory where it says nothing else.
func (e *Engine) Exec(ctx context.Context, id string, p ExecSpec, s Streams) (Exit, error) {
	c, sup, err := e.known(ctx, id)
	if err != nil {
		return Exit{}, err
	}
	if len(p.Command) == 0 {
		return Exit{}, fault.Invalid("there is no command to run in container %s", c.Name)
	}
	r := c.now()
	user, err := spec.LookupUser(filepath.Join(e.home(c.ID), "rootfs"), cmp.Or(p.User, r.User))
	if err != nil {
		return Exit{}, err
	}
	env := []string{"PATH=" + spec.DefaultPath, "HOSTNAME=" + hostname(r)}
	if p.TTY {
		env = append(env, "TERM=xterm")
	}
	exit, err := sup.Exec(ctx, c.ID, supervisor.Process{
		Args: p.Command, Env: spec.MergeEnv(spec.MergeEnv(env, r.Env), p.Env), Cwd: cmp.Or(p.WorkDir, r.WorkDir),
		User: &user, Terminal: p.TTY, Size: p.Size, Privileged: p.Privileged,
	}, s)
	return Exit(exit), err
}

// Remove forgets a container: its root directory, log, network and the volumes that have no
// name. One that runs is killed first with force, and refused without.
func (e *Engine) Remove(ctx context.Context, id string, force bool) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	c.life.Lock()
	defer c.life.Unlock()
	if c.now().Known {
		sup, err := e.supervisor(ctx)
		if err != nil {
			return err
		}
		if !force {
			status, err := sup.Status(ctx, c.ID)
			if err == nil && active(status.State) {
				return fault.Conflict("container %s is %s", c.Name, status.State).Try("stop it first, or remove it by force")
			}
		}
		if err := sup.Delete(ctx, c.ID, force); err != nil && !fault.Is(err, fault.KindNotFound) {
			return fmt.Errorf("remove container %s: %w", c.Name, err)
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
	err = errors.Join(e.networks.Leave(c.ID), os.Remove(filepath.Join(e.home(c.ID), recordFile)))
	e.release(c)
	e.work.Go(func() { e.clear(c.record) })
	e.report(c.record, "destroy", Exited, nil, "")
	return err
}

// clear frees what a container leaves behind.
func (e *Engine) clear(r record) {
	ctx := context.Background() // it must end, whoever has asked for it
	errs := []error{e.discard(ctx, r.ID)}
	for _, name := range r.Anonymous {
		if err := e.volumes.Remove(name); err != nil && !fault.Is(err, fault.KindNotFound) {
			errs = append(errs, err)
		}
	}
	if _, err := e.images.Image(ctx, r.Image); fault.Is(err, fault.KindNotFound) {
		errs = append(errs, e.sweep(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		e.log.Error("parts of a removed container stay until the next start", "container", r.Name, "err", err)
	}
}

// discard unmounts and deletes the directory of a container.
func (e *Engine) discard(ctx context.Context, id string) error {
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
