package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// Network is the one that builds have to themselves, away from the apps.
const Network = "sampan-build"

// label marks build containers, so that those which a crash left are found.
const label = "dev.sampan.build"

// Labels are those of a container that belongs to a build.
func Labels() map[string]string { return map[string]string{label: ""} }

// Container runs commands in containers of an engine.
type Container struct {
	engine *engine.Engine

	mu      sync.Mutex
	network bool // exists
}

// On makes a Box of an engine.
func On(e *engine.Engine) *Container { return &Container{engine: e} }

func (*Container) See(m Mount) string { return m.At }
func (*Container) Owner() int         { return user }
func (*Container) Contained() bool    { return true }

// Clean removes what an interrupted server left.
func (b *Container) Clean(ctx context.Context) error {
	left, err := b.engine.Containers(ctx, Labels())
	if err != nil {
		return fmt.Errorf("look for left build containers: %w", err)
	}
	var failed error
	for _, c := range left {
		failed = errors.Join(failed, b.engine.Remove(ctx, c.ID, engine.RemoveOptions{Force: true, Volumes: true}))
	}
	return failed
}

// Run runs c in a new container, which is gone when it returns.
func (b *Container) Run(ctx context.Context, c Command) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	made, err := b.engine.Create(ctx, b.spec(c))
	if err != nil {
		return fmt.Errorf("create a build container: %w", err)
	}
	defer func() { // also when ctx has ended
		_ = b.engine.Remove(context.WithoutCancel(ctx), made.ID, engine.RemoveOptions{Force: true, Volumes: true})
	}()
	run := ctx
	if c.Limits.Time > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(ctx, c.Limits.Time)
		defer cancel()
	}
	err = b.follow(run, made.ID, c.Output)
	if ctx.Err() == nil && run.Err() != nil {
		return &Failure{Timeout: c.Limits.Time}
	}
	return err
}

// ready makes the network when it is first needed.
func (b *Container) ready(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.network {
		return nil
	}
	if err := MakeNetwork(ctx, b.engine); err != nil {
		return err
	}
	b.network = true
	return nil
}

// MakeNetwork makes the network of builds where there is none yet.
func MakeNetwork(ctx context.Context, e *engine.Engine) error {
	_, err := e.CreateNetwork(ctx, engine.NetworkSpec{Name: Network})
	if err != nil && !fault.Is(err, fault.KindConflict) {
		return fmt.Errorf("make the network of builds: %w", err)
	}
	return nil
}

func (b *Container) spec(c Command) engine.Spec {
	s := engine.Spec{
		Image: c.Image, Entrypoint: c.Argv[:1], Command: c.Argv[1:], Env: c.Env, WorkDir: c.Dir,
		User: fmt.Sprintf("%d:%d", user, user), Labels: Labels(),
		Network: Network, Hostname: "build",
		Limits: engine.Limits{Memory: c.Limits.Memory, CPUs: c.Limits.CPUs, Pids: c.Limits.Pids},
	}
	for _, m := range c.Mounts {
		s.Mounts = append(s.Mounts, engine.Mount{Type: engine.Bind, Source: m.Host, Target: m.At, ReadOnly: m.ReadOnly})
	}
	slices.SortStableFunc(s.Mounts, func(a, b engine.Mount) int { return len(a.Target) - len(b.Target) })
	return s
}

// follow starts the container, prints what it prints and waits for its end. The output is
// read from the log, which has every line also when the reader is slow.
func (b *Container) follow(ctx context.Context, id string, out io.Writer) error {
	if err := b.engine.Start(ctx, id); err != nil {
		return fmt.Errorf("start a build container: %w", err)
	}
	err := b.engine.Logs(ctx, id, engine.LogOptions{Follow: true}, func(l engine.Line) error {
		_, err := io.WriteString(out, l.Text)
		return err
	})
	if err != nil {
		return fmt.Errorf("read a build's output: %w", err)
	}
	exit, err := b.engine.Wait(ctx, id)
	if err != nil {
		return fmt.Errorf("wait for a build container: %w", err)
	}
	if exit.Code != 0 || exit.OOM {
		return &Failure{Code: exit.Code, OOM: exit.OOM}
	}
	return nil
}
