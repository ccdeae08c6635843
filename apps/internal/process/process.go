// Package process runs instances as plain processes of the host, for machines on which
// containers cannot run. There is NO ISOLATION: instances see the host's files and each other,
// and of the limits only memory is watched.
//
// Each instance has a directory with what it was started with, its output as it wrote it and
// its log. A small shell stands above the program, as leader of a session of its own, and
// writes the exit status down, so that instances outlive the server: the next one knows them
// by process number and start time (proc_pid_stat, field 22), which together are not used
// twice, and reads on in their output where the last one stopped. As root, programs run as
// the user nobody. Every instance gets a port of its own on the loopback address, in PORT.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
)

// Files in an instance's directory.
const (
	recordFile = "instance.json"
	exitFile   = "exit"
)

// A Runner starts processes below one directory.
type Runner struct {
	dir string
	log *slog.Logger

	ctx    context.Context // ends with Close: the followers of instances live as long
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu   sync.Mutex
	live map[string]*instance
}

var _ runner.Runner = (*Runner)(nil)

// A record is what is on disk of an instance.
type record struct {
	runner.Instance
	Pid   int
	Birth string // field 22 of proc_pid_stat: with Pid, one process for all time
	Limit int64  // bytes of memory
}

// An instance is a record that is followed.
type instance struct {
	record
	dir   string
	log   *journal
	ended chan struct{} // closed when Exit is set
	oom   bool
}

// Open adopts what earlier servers started.
func Open(ctx context.Context, dir string, log *slog.Logger) (*Runner, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of instances: %w", err)
	}
	if err := reachable(dir); err != nil {
		return nil, err
	}
	r := &Runner{dir: dir, log: log, live: map[string]*instance{}}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	for _, e := range entries {
		if err := r.adopt(filepath.Join(dir, e.Name())); err != nil {
			r.cancel()
			return nil, err
		}
	}
	return r, nil
}

// reachable makes sure that the user whom apps run as may enter the directories above dir.
func reachable(dir string) error {
	at, err := filepath.Abs(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fault.Invalid("apps run as the user nobody, who may not enter %s", at).
				Try("allow it (chmod o+x %s), or set another directory with --data", at)
		}
	}
	return nil
}

// Close stops following. The instances live on.
func (r *Runner) Close() error {
	r.cancel()
	r.tasks.Wait()
	return nil
}

// Traits implements [runner.Runner].
func (r *Runner) Traits() runner.Traits { return runner.Traits{Name: "host processes"} }

// adopt follows what is in a directory again. One without a record was never started.
func (r *Runner) adopt(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("adopt instance: %w", err)
	}
	in := &instance{dir: dir, ended: make(chan struct{})}
	if err := json.Unmarshal(text, &in.record); err != nil {
		r.log.Warn("removing an instance whose record cannot be read", "dir", dir, "err", err)
		return os.RemoveAll(dir)
	}
	return r.follow(in)
}

// follow reads an instance's output and waits for its end, until the runner is closed.
func (r *Runner) follow(in *instance) error {
	journal, err := openJournal(in.dir)
	if err != nil {
		return err
	}
	in.log = journal
	r.mu.Lock()
	r.live[in.ID] = in
	r.mu.Unlock()
	gone, err := watch(in.Pid, in.Birth)
	if err != nil {
		return fmt.Errorf("follow instance %s: %w", in.Name, err)
	}
	r.tasks.Go(func() {
		journal.run(r.ctx, in.ended)
	})
	r.tasks.Go(func() {
		defer gone.close()
		if in.Limit > 0 {
			stop := r.guard(in)
			defer stop()
		}
		if gone.wait(r.ctx) {
			r.end(in)
		}
	})
	return nil
}

// end notes how an instance ended.
func (r *Runner) end(in *instance) {
	exit := runner.Exit{Code: -1, At: time.Now()}
	if info, err := os.Stat(filepath.Join(in.dir, exitFile)); err == nil {
		exit.At = info.ModTime()
		if text, err := os.ReadFile(filepath.Join(in.dir, exitFile)); err == nil {
			fmt.Sscanf(string(text), "%d", &exit.Code)
		}
	}
	reap(in.Pid)
	r.mu.Lock()
	exit.OOM = in.oom
	in.Exit = &exit
	r.mu.Unlock()
	close(in.ended)
}

func (r *Runner) find(id string) (*instance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.live[id]
	if in == nil {
		return nil, fault.NotFound("there is no instance %q", id)
	}
	return in, nil
}

// Instances implements [runner.Runner].
func (r *Runner) Instances(ctx context.Context) ([]runner.Instance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]runner.Instance, 0, len(r.live))
	for _, in := range r.live {
		list = append(list, in.Instance)
	}
	return list, nil
}

// Wait implements [runner.Runner].
func (r *Runner) Wait(ctx context.Context, id string) (runner.Exit, error) {
	in, err := r.find(id)
	if err != nil {
		return runner.Exit{}, err
	}
	select {
	case <-in.ended:
		r.mu.Lock()
		defer r.mu.Unlock()
		return *in.Exit, nil
	case <-ctx.Done():
		return runner.Exit{}, context.Cause(ctx)
	case <-r.ctx.Done():
		return runner.Exit{}, context.Canceled
	}
}

// Remove implements [runner.Runner].
func (r *Runner) Remove(ctx context.Context, id string) error {
	if err := r.Stop(ctx, id, 0); err != nil {
		return err
	}
	r.mu.Lock()
	in := r.live[id]
	delete(r.live, id)
	r.mu.Unlock()
	if in == nil {
		return nil
	}
	in.log.remove()
	// The record goes first: without it a crash in the middle leaves what Open clears away.
	if err := os.Remove(filepath.Join(in.dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove instance %s: %w", id, err)
	}
	return os.RemoveAll(in.dir)
}

// Fetch implements [runner.Runner].
func (r *Runner) Fetch(context.Context, string) (runner.Fetched, error) {
	return runner.Fetched{}, fault.Conflict("images need containers, and this server runs host processes").
		Try("push source code, or let `sampan doctor` say what containers need here")
}

// Has implements [runner.Runner].
func (r *Runner) Has(_ context.Context, a runner.Artifact) (bool, error) {
	if a.Dir == "" {
		return false, nil
	}
	_, err := os.Stat(a.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Discard implements [runner.Runner].
func (r *Runner) Discard(_ context.Context, a runner.Artifact) error {
	if a.Dir == "" {
		return nil
	}
	return os.RemoveAll(a.Dir)
}

// Logs implements [runner.Runner].
func (r *Runner) Logs(ctx context.Context, id string, o runner.LogOptions, each func(runner.Line) error) error {
	in, err := r.find(id)
	if err != nil {
		return err
	}
	return in.log.read(ctx, o, each)
}
