package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
)

// wrapper runs a program and writes its exit status down. A trap that does something, unlike
// one that ignores, is not inherited: the program gets its signals, the shell waits for it.
// What the shell itself would say of a signal is not the program's output.
const wrapper = `trap : TERM INT HUP; exec 3>&2 2>/dev/null; "$@" 2>&3 3>&-; code=$?; echo $code >"$SAMPAN_EXIT.new" && mv "$SAMPAN_EXIT.new" "$SAMPAN_EXIT"; exit $code`

// nobody is the user that programs run as when the server is root.
const nobody = 65534

// Start implements [runner.Runner].
func (r *Runner) Start(ctx context.Context, s runner.Spec) (_ runner.Instance, err error) {
	if len(s.Command) == 0 {
		return runner.Instance{}, fault.Invalid("process %q has no command", s.Process).Try("add a line \"%s: COMMAND\" to the Procfile", s.Process)
	}
	in := &instance{dir: filepath.Join(r.dir, s.Name), ended: make(chan struct{})}
	if err := os.Mkdir(in.dir, 0o711); err != nil {
		return runner.Instance{}, fmt.Errorf("make directory of %s: %w", s.Name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(in.dir))
		}
	}()
	port, err := freePort()
	if err != nil {
		return runner.Instance{}, err
	}
	cmd, err := r.command(in.dir, s, port)
	if err != nil {
		return runner.Instance{}, err
	}
	stdout, stderr, err := outputs(in.dir)
	if err != nil {
		return runner.Instance{}, err
	}
	defer stdout.Close()
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return runner.Instance{}, fmt.Errorf("start %s: %w", strings.Join(s.Command, " "), err)
	}
	in.Instance = runner.Instance{
		ID: s.Name, Name: s.Name, App: s.App, Process: s.Process, Number: s.Number, Release: s.Release,
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Started: time.Now(),
	}
	in.Pid, in.Limit = cmd.Process.Pid, s.Limits.Memory
	in.Birth = birth(in.Pid)
	if err := write(filepath.Join(in.dir, recordFile), in.record); err != nil {
		killSession(in.Pid, syscall.SIGKILL)
		return runner.Instance{}, errors.Join(err, cmd.Wait())
	}
	if err := r.follow(in); err != nil {
		killSession(in.Pid, syscall.SIGKILL)
		return runner.Instance{}, err
	}
	return in.Instance, nil
}

// command prepares the shell above the program.
func (r *Runner) command(dir string, s runner.Spec, port int) (*exec.Cmd, error) {
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, fmt.Errorf("make home of %s: %w", s.Name, err)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", wrapper, s.Process}, s.Command...)...)
	cmd.Dir = s.Dir
	cmd.Env = append([]string{
		"PATH=" + searchPath(s), "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8",
	}, slices.Clone(s.Env)...)
	cmd.Env = append(cmd.Env, "PORT="+strconv.Itoa(port), "SAMPAN_EXIT="+filepath.Join(dir, exitFile))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		for _, path := range []string{dir, home} {
			if err := os.Chown(path, nobody, nobody); err != nil {
				return nil, fmt.Errorf("give %s to nobody: %w", path, err)
			}
		}
	}
	return cmd, nil
}

// searchPath is the build's own, or the host's usual one.
func searchPath(s runner.Spec) string {
	for _, kv := range s.Env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			return path
		}
	}
	return os.Getenv("PATH")
}

// freePort asks the kernel for a port nobody has. Another program may take it before the
// instance does: then the instance fails to listen and is started again with another.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func write(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return os.Rename(file+".new", file)
}

// Stop implements [runner.Runner].
func (r *Runner) Stop(ctx context.Context, id string, grace time.Duration) error {
	in, err := r.find(id)
	if fault.Is(err, fault.KindNotFound) {
		return nil
	}
	if grace > 0 && r.signal(in, syscall.SIGTERM) {
		select {
		case <-in.ended:
		case <-time.After(grace):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	r.signal(in, syscall.SIGKILL)
	select {
	case <-in.ended:
		killSession(in.Pid, syscall.SIGKILL) // what the program left behind in its session
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// signal reaches every process of an instance that has not ended.
func (r *Runner) signal(in *instance, s syscall.Signal) bool {
	select {
	case <-in.ended:
		return false
	default:
	}
	if birth(in.Pid) != in.Birth {
		return false
	}
	killSession(in.Pid, s)
	return true
}

// Run implements [runner.Runner].
func (r *Runner) Run(ctx context.Context, s runner.Spec, streams runner.Streams) (runner.Exit, error) {
	dir, err := os.MkdirTemp(r.dir, s.Name+"-")
	if err != nil {
		return runner.Exit{}, fmt.Errorf("make directory of %s: %w", s.Name, err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		return runner.Exit{}, err
	}
	port, err := freePort()
	if err != nil {
		return runner.Exit{}, err
	}
	cmd, err := r.command(dir, s, port)
	if err != nil {
		return runner.Exit{}, err
	}
	err = attach(ctx, cmd, streams)
	exit := runner.Exit{At: time.Now()}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		exit.Code, err = failed.ExitCode(), nil
	}
	return exit, err
}
