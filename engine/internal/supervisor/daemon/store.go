//go:build cgo

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/engine/internal/supervisor/logfile"
)

// A kept status also says of which start of the machine it tells.
type kept struct {
	Boot   string            `json:"boot"`
	Status supervisor.Status `json:"status"`
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func (c *container) saveRequest() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("keep container %s: %w", c.id, err)
	}
	if err := replace(filepath.Join(c.dir, "request.json"), c.req); err != nil {
		_ = os.RemoveAll(c.dir)
		return fmt.Errorf("keep container %s: %w", c.id, err)
	}
	return nil
}

func (c *container) saveStatus(s supervisor.Status) error {
	return replace(filepath.Join(c.dir, "status.json"), kept{c.d.boot, s})
}

// replace writes v so that a reader sees the old or the new file.
func replace(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		_ = os.Remove(path + ".new")
		return err
	}
	return os.Rename(path+".new", path)
}

// erase removes what is kept of the container.
func (c *container) erase() error { return os.RemoveAll(c.dir) }

// discard removes libcontainer's files where libcontainer could not.
func (c *container) discard() { _ = os.RemoveAll(filepath.Join(c.d.dir, "runtime", c.id)) }

// load takes over what a former daemon left.
func (d *Daemon) load() error {
	dir := filepath.Join(d.dir, "containers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for containers: %w", err)
	}
	for _, e := range entries {
		if err := d.loadOne(e.Name()); err != nil {
			d.log.Error("a container cannot be taken over and is forgotten", "container", e.Name(), "err", err)
			d.forget(e.Name())
		}
	}
	return nil
}

// forget ends and removes what a power loss left of a container; the engine knows what it was.
func (d *Daemon) forget(id string) {
	c := newContainer(d, supervisor.Request{ID: id})
	if box, err := libcontainer.Load(filepath.Join(d.dir, "runtime"), id); err == nil {
		_ = box.Signal(unix.SIGKILL)
		_ = box.Destroy()
	}
	c.discard()
	_ = c.erase()
}

func (d *Daemon) loadOne(id string) error {
	dir := filepath.Join(d.dir, "containers", id)
	var req supervisor.Request
	if err := read(filepath.Join(dir, "request.json"), &req); err != nil {
		return err
	}
	if req.ID != id || check(req) != nil {
		return errors.New("its request.json is not one")
	}
	c := newContainer(d, req)
	var k kept
	if err := read(filepath.Join(dir, "status.json"), &k); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if k.Status.ID == id {
		c.status = k.Status
	}
	d.containers[id] = c
	if k.Boot != d.boot {
		c.discard()
	}
	c.adopt(k.Boot == d.boot)
	return nil
}

func read(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// adopt goes on with a container where its status says it was. Nobody else knows it yet.
func (c *container) adopt(sameBoot bool) {
	box, err := libcontainer.Load(filepath.Join(c.d.dir, "runtime"), c.id)
	if err != nil {
		box = nil
		c.discard()
	}
	was := c.status.State
	lived := was == supervisor.Running || was == supervisor.Paused
	if box != nil {
		if lived && c.takeOver(box) == nil {
			return
		}
		_ = box.Signal(unix.SIGKILL) // it waited before its program, or nobody knows of it
		if err := box.Destroy(); err != nil {
			c.d.log.Warn("clean up after a container", "container", c.id, "err", err)
			c.discard()
		}
	}
	c.status.Pid, c.status.Health = 0, nil
	if lived {
		c.status.State = supervisor.Exited
		c.status.Exit = &supervisor.Exit{Code: exitUnseen, At: time.Now()}
		c.announce(supervisor.OnDie)
	}
	if (lived || was == supervisor.Restarting) && !c.status.Stopped {
		c.resumeRestarts(was, sameBoot)
	}
}

// resumeRestarts plans the next try that the former daemon owed, unless the machine was started
// anew: then mounts and networks are gone, and the engine makes them before it starts anything.
func (c *container) resumeRestarts(was supervisor.State, sameBoot bool) {
	if !sameBoot {
		c.status.State = supervisor.Exited
		return
	}
	if was == supervisor.Restarting || wants(c.req.Restart, exitUnseen, c.status.Restarts) {
		c.plan()
	}
}

// takeOver watches a process that a former daemon started.
func (c *container) takeOver(box *libcontainer.Container) error {
	pidfd, err := openPidfd(c.status.Pid)
	if err != nil {
		return err
	}
	// Asked only now: the number may belong to another process unless it runs still.
	status, err := box.Status()
	if err != nil || status != libcontainer.Running && status != libcontainer.Paused {
		pidfd.Close()
		return errors.New("it does not run any more")
	}
	if err := c.openLog(c.req.Log); err != nil {
		c.d.log.Warn("open a log", "container", c.id, "err", err)
	}
	r := &run{
		c: c, box: box, pid: c.status.Pid, pidfd: pidfd, phase: begun,
		settled: make(chan struct{}), exited: make(chan struct{}), done: make(chan struct{}),
	}
	close(r.settled)
	if !c.req.Spec.Process.Terminal { // a terminal ended with the daemon that held it
		r.reopen(logfile.Stdout, wire.KindStdout)
		r.reopen(logfile.Stderr, wire.KindStderr)
	}
	c.mu.Lock()
	c.run = r
	c.watchHealth(r)
	c.mu.Unlock()
	c.launched.Do(func() { close(c.ready) })
	c.watchOOM(r)
	c.d.work.Go(r.watch)
	return nil
}

func (r *run) reopen(name string, kind wire.Kind) {
	f, err := openReader(filepath.Join(r.c.dir, name))
	if err != nil {
		r.c.d.log.Warn("take over output", "container", r.c.id, "stream", name, "err", err)
		return
	}
	r.pump(f, kind, name)
}
