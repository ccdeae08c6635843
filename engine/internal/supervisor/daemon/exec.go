//go:build cgo

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// A guest is a further process in a running container.
type guest struct {
	process *libcontainer.Process
	pid     int
	pidfd   *os.File
	stdin   *input
	console *os.File
	outputs []*os.File
	kinds   []wire.Kind // of outputs
}

// enter starts a process in the container.
func (c *container) enter(want supervisor.Process) (*guest, error) {
	r, err := c.running()
	if err != nil {
		return nil, err
	}
	if len(want.Args) == 0 || want.Args[0] == "" {
		return nil, fault.Invalid("there is no command to run in container %s", c.id)
	}
	req := c.request()
	filter := req.Seccomp
	if want.Privileged {
		filter = nil
	}
	p, child, err := c.d.process(guestSpec(req.Spec.Process, want), filter, false)
	if err != nil {
		return nil, err
	}
	defer child.close()
	defer child.report.Close()
	g := &guest{process: p}
	if err := g.start(r, child, want); err != nil {
		g.close()
		return nil, err
	}
	if err := readReport(child.report, want.Args[0]); err != nil {
		g.kill()
		g.wait()
		g.close()
		return nil, err
	}
	return g, nil
}

// guestSpec takes from the container what the caller does not choose.
func guestSpec(of *specs.Process, want supervisor.Process) *specs.Process {
	s := &specs.Process{
		Args: want.Args, Env: want.Env, Cwd: want.Cwd,
		Capabilities: of.Capabilities, NoNewPrivileges: of.NoNewPrivileges, Rlimits: of.Rlimits,
	}
	if s.Cwd == "" {
		s.Cwd = of.Cwd
	}
	if want.User != nil {
		s.User = *want.User
	}
	if want.Size != (supervisor.Size{}) {
		s.ConsoleSize = &specs.Box{Width: uint(want.Size.Columns), Height: uint(want.Size.Rows)}
	}
	if want.Privileged {
		all := allCapabilities()
		s.NoNewPrivileges = false
		s.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	}
	return s
}

func (g *guest) start(r *run, child *child, want supervisor.Process) error {
	var socket *os.File
	var err error
	if want.Terminal {
		socket, err = child.terminal(g.process)
	} else {
		err = g.pipes(child)
	}
	if err != nil {
		return err
	}
	defer closeAll(socket)
	if err := r.box.Run(g.process); err != nil {
		return fmt.Errorf("run %q in container %s: %w", want.Args[0], r.c.id, err)
	}
	child.close() // or the report and the output would never end
	var err2 error
	if g.pid, err2 = g.process.Pid(); err2 == nil {
		g.pidfd, err2 = openPidfd(g.pid)
	}
	err = err2
	if err == nil && socket != nil {
		if g.console, err = receive(socket); err == nil {
			g.stdin = &input{file: g.console, terminal: true}
			g.outputs, g.kinds = []*os.File{g.console}, []wire.Kind{wire.KindStdout}
		}
	}
	if err != nil {
		_ = g.process.Signal(unix.SIGKILL)
		reap(g.process)
	}
	return err
}

func (g *guest) pipes(child *child) error {
	in, typed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	g.process.Stdin, g.stdin = child.keep(in), &input{file: typed}
	for _, o := range []struct {
		kind wire.Kind
		to   *io.Writer
	}{{wire.KindStdout, &g.process.Stdout}, {wire.KindStderr, &g.process.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		*o.to = child.keep(w)
		g.outputs, g.kinds = append(g.outputs, r), append(g.kinds, o.kind)
	}
	return nil
}

func (g *guest) kill() { _ = sendSignal(g.pidfd, unix.SIGKILL) }

// wait returns the exit code.
func (g *guest) wait() int {
	_ = awaitExit(g.pidfd)
	return reap(g.process)
}

func (g *guest) close() {
	closeAll(g.pidfd, g.console)
	closeAll(g.outputs...)
	if g.stdin != nil {
		g.stdin.close()
	}
}

// copyOut hands output to fn until all of it has come, or until a second after the end: what
// the process left in the background may keep it open for ever.
func (g *guest) copyOut(fn func(kind wire.Kind, p []byte) error) (code int) {
	var pumps sync.WaitGroup
	for i, from := range g.outputs {
		pumps.Go(func() {
			buf := make([]byte, pumpSize)
			for {
				n, err := from.Read(buf)
				if n > 0 && fn(g.kinds[i], buf[:n]) != nil {
					g.kill()
					return
				}
				if err != nil {
					return
				}
			}
		})
	}
	code = g.wait()
	timer := time.AfterFunc(time.Second, func() {
		for _, f := range g.outputs {
			_ = f.SetReadDeadline(time.Now())
		}
	})
	pumps.Wait()
	timer.Stop()
	return code
}

// exec runs a process for a caller. It ends with its caller, unless it is detached.
func (c *container) exec(conn *net.UnixConn, want supervisor.Process) error {
	g, err := c.enter(want)
	if err != nil {
		return err
	}
	if want.Detached {
		c.d.work.Go(func() { c.leave(g, want.ID) })
		return accept(conn, g.pid)
	}
	defer g.close()
	if err := accept(conn, g.pid); err != nil {
		g.kill()
	}
	reading := make(chan struct{})
	c.d.work.Go(func() {
		defer close(reading)
		g.listen(conn)
	})
	var writing sync.Mutex // a frame is one piece
	code := g.copyOut(func(kind wire.Kind, p []byte) error {
		writing.Lock()
		defer writing.Unlock()
		return wire.Write(conn, kind, p)
	})
	_ = wire.WriteJSON(conn, wire.KindExit, supervisor.Exit{Code: code, At: time.Now()})
	g.stdin.close()
	conn.Close()
	<-reading
	return nil
}

// leave sees a detached process to its end, which is told.
func (c *container) leave(g *guest, id string) {
	defer g.close()
	g.stdin.end()
	code := g.copyOut(func(wire.Kind, []byte) error { return nil })
	c.d.events.publish(supervisor.Event{Time: time.Now(), Action: supervisor.OnExecDie, Status: c.Status(), Exec: id, Code: code})
}

// listen takes what the caller types. Its end is the process's.
func (g *guest) listen(conn *net.UnixConn) {
	buf := make([]byte, pumpSize)
	for {
		kind, p, err := wire.Read(conn, buf)
		if err != nil {
			g.kill()
			return
		}
		switch kind {
		case wire.KindStdin:
			_ = g.stdin.write(p) // the process may have closed its end
		case wire.KindStdinEnd:
			g.stdin.end()
		case wire.KindResize:
			_ = resize(g.console, p)
		}
	}
}

var errNoTerminal = errors.New("it has no terminal")

func resize(console *os.File, payload []byte) error {
	var s supervisor.Size
	if err := json.Unmarshal(payload, &s); err != nil {
		return err
	}
	if console == nil {
		return errNoTerminal
	}
	return withFD(console, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Columns})
	})
}
