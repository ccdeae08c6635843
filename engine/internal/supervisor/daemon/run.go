//go:build cgo

package daemon

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/engine/internal/supervisor/logfile"
	"sampan.dev/sampan/internal/fault"
)

// A phase of a run, under the container's mu.
type phase int

const (
	held      phase = iota // the process waits before its program
	releasing              // it is being let go
	begun                  // the program runs, or has
	failed                 // the program could not be executed
	stillborn              // the process ended while it was held
)

// A run is one life of a container's first process.
type run struct {
	c       *container
	box     *libcontainer.Container
	process *libcontainer.Process // nil when a former daemon started it
	pid     int
	pidfd   *os.File
	report  *os.File // why the program could not be executed

	stdin   *input     // nil: none
	console *os.File   // the master of the terminal; nil: none
	outputs []*os.File // what pumps read
	pumps   sync.WaitGroup

	memory string   // where oomKills reads
	notify *os.File // told by the kernel of a lack of memory; nil: not asked for

	phase   phase
	exit    supervisor.Exit // valid when done is closed
	settled chan struct{}   // closed when phase is begun or failed
	exited  chan struct{}   // closed when the process has ended
	done    chan struct{}   // closed when it is over and its end is known to all
}

func (r *run) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// launch makes a process that waits before its program. It is called with op held.
func (c *container) launch() (*run, error) {
	req := c.request()
	if err := c.openLog(req.Log); err != nil {
		return nil, full(err)
	}
	box, err := c.box(req)
	if err != nil {
		return nil, full(err)
	}
	r := &run{c: c, box: box, settled: make(chan struct{}), exited: make(chan struct{}), done: make(chan struct{})}
	if err := r.hold(req); err != nil {
		r.close()
		_ = box.Destroy()
		return nil, full(fmt.Errorf("make the process of container %s: %w", c.id, err))
	}
	c.mu.Lock()
	c.run = r
	c.status.Pid = r.pid
	c.mu.Unlock()
	c.launched.Do(func() { close(c.ready) })
	c.watchOOM(r)
	c.d.work.Go(r.watch)
	return r, nil
}

// box asks libcontainer for its container.
func (c *container) box(req supervisor.Request) (*libcontainer.Container, error) {
	s := *req.Spec
	l := *s.Linux
	s.Linux, s.Hooks, l.Seccomp = &l, nil, nil
	if l.CgroupsPath == "" {
		l.CgroupsPath = filepath.Join(c.d.cgroup, c.id)
	}
	p := *s.Process
	p.OOMScoreAdj = c.d.score(p.OOMScoreAdj)
	s.Process = &p
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: c.id, Spec: &s})
	if err != nil {
		return nil, fault.Invalid("the configuration of container %s is not possible: %w", c.id, err)
	}
	box, err := libcontainer.Create(filepath.Join(c.d.dir, "runtime"), c.id, cfg)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", c.id, err)
	}
	return box, nil
}

func (r *run) hold(req supervisor.Request) error {
	p, child, err := r.c.d.process(req.Spec.Process, req.Seccomp, req.Init)
	if err != nil {
		return err
	}
	defer child.close()
	r.report = child.report
	p.Init = true
	var console *os.File
	if req.Spec.Process.Terminal {
		console, err = child.terminal(p)
	} else {
		err = r.pipes(p, child, req.Stdin)
	}
	if err != nil {
		return err
	}
	if err := r.box.Start(p); err != nil {
		closeAll(console)
		return err
	}
	r.process = p
	if r.pid, err = p.Pid(); err == nil {
		r.pidfd, err = openPidfd(r.pid)
	}
	if err == nil && console != nil {
		err = r.takeConsole(console)
	}
	if err != nil {
		_ = p.Signal(unix.SIGKILL)
		_, _ = p.Wait()
	}
	return err
}

// takeConsole receives the terminal that libcontainer made in the container.
func (r *run) takeConsole(socket *os.File) error {
	defer socket.Close()
	master, err := receive(socket)
	if err != nil {
		return err
	}
	r.console, r.stdin = master, &input{file: master, terminal: true}
	r.pump(master, wire.KindStdout, logfile.Stdout)
	return nil
}

// pipes connects the output by FIFOs, whose names the next daemon finds. The container's ends
// are open for reading too, so that its writes wait rather than fail while no daemon reads.
func (r *run) pipes(p *libcontainer.Process, child *child, stdin bool) error {
	for _, o := range []struct {
		name string
		kind wire.Kind
		to   *io.Writer
	}{
		{logfile.Stdout, wire.KindStdout, &p.Stdout},
		{logfile.Stderr, wire.KindStderr, &p.Stderr},
	} {
		reader, writer, err := r.c.openOutput(o.name)
		if err != nil {
			return err
		}
		*o.to = child.keep(writer)
		r.pump(reader, o.kind, o.name)
	}
	if !stdin {
		null, err := os.Open(os.DevNull)
		p.Stdin = child.keep(null)
		return err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	p.Stdin, r.stdin = child.keep(reader), &input{file: writer}
	return nil
}

// start lets the held process go and returns when the program runs.
func (r *run) start() error {
	defer func() { r.report.Close(); r.report = nil }()
	if err := r.box.Exec(); err != nil {
		_ = r.kill(unix.SIGKILL)
		return fmt.Errorf("start container %s: %w", r.c.id, err)
	}
	return readReport(r.report, r.c.request().Spec.Process.Args[0])
}

// kill sends a signal; that the process has ended is no error.
func (r *run) kill(sig unix.Signal) error {
	if sig == unix.SIGKILL { // also wakes one that is paused
		if r.box.Signal(sig) == nil {
			return nil
		}
	}
	err := sendSignal(r.pidfd, sig)
	select {
	case <-r.exited: // whatever the error was: the handle may be closed by now
		return nil
	default:
		return err
	}
}

// watch waits for the end of the process and settles everything that belongs to the run.
func (r *run) watch() {
	code := r.wait()
	close(r.exited)
	exit := supervisor.Exit{Code: code, At: time.Now()}
	if n := r.oomKills(); n > 0 {
		exit.OOM = code != 0
	}
	r.drain()
	r.c.endLog()
	if err := r.box.Destroy(); err != nil {
		r.c.d.log.Warn("clean up after a container", "container", r.c.id, "err", err)
		r.c.discard()
	}
	if !r.dead() {
		<-r.settled
	}
	r.close()
	r.c.ended(r, exit)
}

// dead reports, and makes sure, that the process ended while it was held: nobody will settle it.
func (r *run) dead() bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.phase == held {
		r.phase = stillborn
	}
	return r.phase == stillborn
}

func (r *run) close() {
	closeAll(r.pidfd, r.console, r.notify)
	if r.stdin != nil {
		r.stdin.close()
	}
}

// closeAll closes those that are there.
func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
