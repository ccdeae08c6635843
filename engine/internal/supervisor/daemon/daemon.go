//go:build cgo

// Package daemon is what sampan-init does as a supervisor: it runs the containers of one
// engine directory through libcontainer and answers the calls of package supervisor.
//
// A run is one life of a container's first process; a container has one run after another.
// A container is changed by one operation at a time (its op lock); what others may ask at
// any time is its Status (its mu lock). The daemon is the parent of every process it starts
// and waits for all of them through one poller, so that an idle container costs no thread.
//
// On disk, in the directory: "lock" is held by the one daemon, "sock" is where it listens,
// "containers/ID" has request.json, status.json and the FIFOs of the output, "runtime/ID" is
// libcontainer's. Files are replaced atomically but not synced: after a power loss nothing
// runs, and the engine's own records say what should. When only the daemon dies, containers
// go on, their output waits in the FIFOs, and the next daemon takes both over.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	_ "github.com/opencontainers/cgroups/devices" // without it no device rule is ever set
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// Config of a daemon.
type Config struct {
	Dir    string
	Cgroup string // parent of all its cgroups, as /sampan/1234

	// Program is the path that Spawn was run from: a server with another one replaces a
	// daemon that has nothing to do.
	Program string
	Log     *slog.Logger
}

// A Daemon supervises the containers of one directory.
type Daemon struct {
	dir     string
	cgroup  string
	program string
	boot    string // which start of the machine this is
	spared  bool   // the kernel prefers other processes when it lacks memory
	log     *slog.Logger
	seals   seals
	events  hub

	ctx  context.Context // ends when the daemon does
	stop context.CancelFunc
	work sync.WaitGroup // every goroutine of a container or a call

	mu         sync.Mutex
	containers map[string]*container
	closing    bool
}

// readyFD is where Spawn waits for word; it is inherited.
const readyFD = 3

// Serve works until Shutdown is called or ctx ends; containers live on.
func Serve(ctx context.Context, cfg Config) error {
	ready := newReady()
	d, err := open(ctx, cfg)
	if err != nil {
		ready.say(err)
		return err
	}
	l, err := wire.Listen(cfg.Dir)
	if err != nil {
		err = fmt.Errorf("listen in %s: %w", cfg.Dir, err)
		ready.say(err)
		return err
	}
	ready.say(nil)
	d.log.Info("serving", "dir", cfg.Dir, "containers", len(d.containers))
	return d.serve(l)
}

func open(ctx context.Context, cfg Config) (*Daemon, error) {
	// A few megabytes of garbage for each start are more than all that is kept.
	debug.SetGCPercent(40)
	// The first steps in a container are those of one thread.
	if err := os.Setenv("GOMAXPROCS", "1"); err != nil {
		return nil, err
	}
	// Processes in containers inherit it, whatever the server's is.
	unix.Umask(0o022)
	d := &Daemon{dir: cfg.Dir, cgroup: cfg.Cgroup, program: cfg.Program, boot: bootID(), log: cfg.Log, containers: map[string]*container{}}
	if err := lock(cfg.Dir); err != nil {
		return nil, err
	}
	if err := d.seals.open(); err != nil {
		return nil, err
	}
	if err := d.enterCgroup(); err != nil { // it may die with the server's, which is better than not living
		d.log.Warn("cannot leave the server's control group", "err", err)
	}
	d.spared = spare()
	d.ctx, d.stop = context.WithCancel(ctx)
	if err := d.load(); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// spare asks the kernel to end others first when memory is short: with this process goes the
// output of all containers. It reports whether containers would inherit that. Asking for it
// needs CAP_SYS_RESOURCE; without it things stay as they are.
func spare() bool {
	const file = "/proc/self/oom_score_adj"
	_ = os.WriteFile(file, []byte("-500"), 0)
	score, err := os.ReadFile(file)
	return err == nil && strings.HasPrefix(string(score), "-")
}

// score is what a container's processes get: they must not be spared with this one, and lowering
// it needs a capability that is not there everywhere.
func (d *Daemon) score(wanted *int) *int {
	switch {
	case wanted != nil && (*wanted >= 0 || d.spared):
		return wanted
	case d.spared:
		return new(int)
	}
	return nil
}

// lock holds the directory for as long as the process lives. A former daemon that was killed
// may take moments to be gone; one that answers is there to stay.
func lock(dir string) error {
	path := filepath.Join(dir, "lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	for deadline := time.Now().Add(lockTime); ; time.Sleep(lockPause) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		conn, dial := wire.Dial(dir)
		if dial == nil {
			conn.Close()
		}
		if dial == nil || err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			return fmt.Errorf("another sampan-init serves this directory: lock %s: %w", path, err)
		}
	}
}

const (
	lockTime  = 5 * time.Second
	lockPause = 10 * time.Millisecond
)

// acceptPause lets calls in flight give back what accepting lacks.
const acceptPause = 50 * time.Millisecond

func (d *Daemon) serve(l *net.UnixListener) error {
	go func() {
		<-d.ctx.Done()
		l.Close()
	}()
	for {
		conn, err := l.AcceptUnix()
		if d.ctx.Err() != nil {
			break
		}
		if err != nil { // out of file descriptors, at worst
			d.log.Warn("accept a call", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		d.work.Go(func() { d.answer(conn) })
	}
	d.work.Wait()
	d.leaveCgroup()
	return nil
}

// shutdown ends the daemon when nothing runs.
func (d *Daemon) shutdown() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.containers {
		if c.alive() {
			return fault.Conflict("container %s runs", c.id).Try("stop it first")
		}
	}
	d.closing = true
	d.stop()
	return nil
}

func (d *Daemon) find(id string) (*container, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.containers[id]; ok {
		return c, nil
	}
	return nil, fault.NotFound("there is no container %s", id)
}

// create makes a container known.
func (d *Daemon) create(r supervisor.Request) error {
	if err := check(r); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return fault.Conflict("sampan-init is shutting down")
	}
	if _, ok := d.containers[r.ID]; ok {
		return fault.Conflict("container %s exists", r.ID)
	}
	c := newContainer(d, r)
	if err := c.saveRequest(); err != nil {
		return full(err)
	}
	d.containers[r.ID] = c
	c.announce(supervisor.OnCreate)
	return nil
}

func check(r supervisor.Request) error {
	switch {
	case !validID(r.ID):
		return fault.Invalid("%q cannot name a container", r.ID)
	case r.Spec == nil || r.Spec.Root == nil || r.Spec.Process == nil || r.Spec.Linux == nil:
		return fault.Invalid("the configuration of container %s lacks its root, process or linux section", r.ID)
	case len(r.Spec.Process.Args) == 0 || r.Spec.Process.Args[0] == "":
		return fault.Invalid("container %s has no command", r.ID)
	case len(r.Seccomp)%8 != 0:
		return fault.Invalid("the seccomp filter of container %s is cut off", r.ID)
	}
	return nil
}

// validID keeps to what libcontainer and every file system take.
func validID(id string) bool {
	if id == "" || len(id) > 200 || id[0] == '.' {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == '+', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// list returns the status of all containers.
func (d *Daemon) list() []supervisor.Status {
	d.mu.Lock()
	all := make([]*container, 0, len(d.containers))
	for _, c := range d.containers {
		all = append(all, c)
	}
	d.mu.Unlock()
	out := make([]supervisor.Status, len(all))
	for i, c := range all {
		out[i] = c.Status()
	}
	return out
}

// full makes the one failure of a disk that is the user's to mend into a fault.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fault.Full("there is no room on the disk: %w", err).Try("free some and try again")
	}
	return err
}
