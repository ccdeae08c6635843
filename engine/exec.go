package engine

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

// An ExecSpec is a further process in a container. It gets the container's environment, user
// and directory where it says nothing else.
type ExecSpec struct {
	Command    []string
	Env        []string
	WorkDir    string
	User       string
	TTY        bool
	Size       Size // of the terminal
	Privileged bool

	Stdin, Stdout, Stderr bool   // which of them are to be connected
	DetachKeys            string // as the client gave them
}

// An Exec is such a process, before, in or after its run.
type Exec struct {
	ID        string
	Container string
	Spec      ExecSpec
	Running   bool
	Pid       int // on the host
	Exit      *Exit
}

// execs are all that are known. One is forgotten with its container, or when there are
// more than maxExecs of it that do not run.
type execs struct {
	mu  sync.Mutex
	all map[string]*exec
}

type exec struct {
	Exec
	made    time.Time
	started bool
	sizes   chan Size
}

const maxExecs = 128 // of one container

func (x *execs) add(s *exec) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all[s.ID] = s
}

// of are the IDs of a container's.
func (x *execs) of(container string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []string
	for id, s := range x.all {
		if s.Container == container {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// forget drops those of a container that have ended, the oldest, until there are at most keep;
// zero drops all of them.
func (x *execs) forget(container string, keep int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var over []*exec
	for _, s := range x.all {
		if s.Container == container && (keep == 0 || !s.Running) {
			over = append(over, s)
		}
	}
	slices.SortFunc(over, func(a, b *exec) int { return a.made.Compare(b.made) })
	for _, s := range over[:max(0, len(over)-keep)] {
		delete(x.all, s.ID)
	}
}

// begin marks one as started; only one caller succeeds.
func (x *execs) begin(id string) (*exec, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.all[id]
	if s == nil {
		return nil, fault.NotFound("there is no exec %s", id)
	}
	if s.started {
		return nil, fault.Conflict("exec %.12s has been started already", id)
	}
	s.started = true
	return s, nil
}

func (x *execs) set(s *exec, edit func(*Exec)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	edit(&s.Exec)
}

// CreateExec prepares a process in a running container.
func (e *Engine) CreateExec(ctx context.Context, id string, s ExecSpec) (Exec, error) {
	now, err := e.Container(ctx, id)
	if err != nil {
		return Exec{}, err
	}
	switch {
	case now.State == Paused:
		return Exec{}, fault.Conflict("container %s is paused", now.Name).Try("unpause it first")
	case now.State != Running:
		return Exec{}, fault.Conflict("container %s is not running", now.Name).Try("start it first")
	case len(s.Command) == 0:
		return Exec{}, fault.Invalid("there is no command to run in container %s", now.Name)
	}
	e.execs.forget(now.ID, maxExecs)
	x := &exec{Exec: Exec{ID: newID(), Container: now.ID, Spec: s}, made: time.Now(), sizes: make(chan Size, 1)}
	e.execs.add(x)
	if c, err := e.find(now.ID); err == nil {
		e.report(c.now(), "exec_create: "+strings.Join(s.Command, " "), now.State, "execID", x.ID)
	}
	return x.Exec, nil
}

// FindExec tells of one.
func (e *Engine) FindExec(ctx context.Context, id string) (Exec, error) {
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	if x := e.execs.all[id]; x != nil {
		return x.Exec, nil
	}
	return Exec{}, fault.NotFound("there is no exec %s", id)
}

// StartExec runs it and returns; wait returns when it has ended. When ctx ends before, the
// process is killed.
func (e *Engine) StartExec(ctx context.Context, id string, s Streams) (wait func() (Exit, error), err error) {
	x, err := e.execs.begin(id)
	if err != nil {
		return nil, err
	}
	if s.Resize == nil {
		s.Resize = x.sizes
	}
	over, err := e.enter(ctx, x, false, s)
	if err != nil {
		return nil, err
	}
	return func() (Exit, error) {
		exit, err := over()
		if err != nil {
			exit = supervisor.Exit{Code: lostExit}
		}
		e.left(x, Exit(exit))
		return Exit(exit), err
	}, nil
}

// DetachExec runs it and lets it go on; its output is lost.
func (e *Engine) DetachExec(ctx context.Context, id string) error {
	x, err := e.execs.begin(id)
	if err != nil {
		return err
	}
	_, err = e.enter(ctx, x, true, Streams{})
	return err
}

// enter starts a process in its container.
func (e *Engine) enter(ctx context.Context, x *exec, detached bool, s Streams) (func() (supervisor.Exit, error), error) {
	wait, err := e.begin(ctx, x, detached, s)
	if err != nil {
		e.execs.set(x, func(x *Exec) { x.Exit = &Exit{Code: startCode(err)} })
	}
	return wait, err
}

func (e *Engine) begin(ctx context.Context, x *exec, detached bool, s Streams) (func() (supervisor.Exit, error), error) {
	c, sup, err := e.known(ctx, x.Container)
	if err != nil {
		return nil, err
	}
	p, err := e.process(c.now(), x.Spec)
	if err != nil {
		return nil, err
	}
	p.ID, p.Detached = x.ID, detached
	pid, wait, err := sup.Exec(ctx, c.ID, p, s)
	if err != nil {
		return nil, err
	}
	e.execs.set(x, func(x *Exec) { x.Running, x.Pid = true, pid })
	e.report(c.now(), "exec_start: "+strings.Join(x.Spec.Command, " "), Running, "execID", x.ID)
	return wait, nil
}

// startCode is what a shell says of a command that it cannot run.
func startCode(err error) int {
	if strings.Contains(err.Error(), "not found") || strings.Contains(err.Error(), "no such file") {
		return 127
	}
	return 126
}

// left notes the end of a process.
func (e *Engine) left(x *exec, exit Exit) {
	e.execs.set(x, func(x *Exec) { x.Running, x.Pid, x.Exit = false, 0, &exit })
	if c, err := e.find(x.Container); err == nil {
		e.report(c.now(), "exec_die", Running, "execID", x.ID, "exitCode", code(exit))
	}
}

// process is what sampan-init is told of one.
func (e *Engine) process(r record, s ExecSpec) (supervisor.Process, error) {
	user, err := spec.LookupUser(filepath.Join(e.home(r.ID), "rootfs"), cmp.Or(s.User, r.User), r.Spec.Groups...)
	if err != nil {
		return supervisor.Process{}, err
	}
	env := []string{"PATH=" + spec.DefaultPath, "HOSTNAME=" + hostname(r)}
	if s.TTY {
		env = append(env, "TERM=xterm")
	}
	return supervisor.Process{
		Args: s.Command, Env: spec.MergeEnv(spec.MergeEnv(env, r.Env), s.Env), Cwd: cmp.Or(s.WorkDir, r.WorkDir),
		User: &user, Terminal: s.TTY, Size: s.Size, Privileged: s.Privileged || r.Spec.Privileged,
	}, nil
}

// ResizeExec sets the size of a terminal.
func (e *Engine) ResizeExec(ctx context.Context, id string, size Size) error {
	e.execs.mu.Lock()
	x := e.execs.all[id]
	running := x != nil && x.Running
	e.execs.mu.Unlock()
	if x == nil {
		return fault.NotFound("there is no exec %s", id)
	}
	if !running {
		return fault.Conflict("exec %.12s is not running", id)
	}
	for {
		select {
		case x.sizes <- size:
			return nil
		case <-x.sizes: // an older one that nobody took yet
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Exec runs a further process in a running container and returns when it has ended.
func (e *Engine) Exec(ctx context.Context, id string, s ExecSpec, streams Streams) (Exit, error) {
	x, err := e.CreateExec(ctx, id, s)
	if err != nil {
		return Exit{}, err
	}
	wait, err := e.StartExec(ctx, x.ID, streams)
	if err != nil {
		return Exit{}, err
	}
	return wait()
}
