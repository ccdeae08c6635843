package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Host runs commands as processes of this machine.
type Host struct{}

func (Host) See(m Mount) string { return m.Host }
func (Host) Contained() bool    { return false }

// Owner is nobody when we are root, for a build does what its author wrote.
func (Host) Owner() int {
	if os.Geteuid() == 0 {
		return user
	}
	return -1
}

// settle is how long the rest of a process group may hold the output open after its end.
const settle = 2 * time.Second

// limited lowers what it and its children may use, as far as that is possible, and becomes
// the command. The limits are each process's: without a control group there are none for all
// of them. Another user's process cannot be limited from outside.
const limited = `ulimit -c 0; ulimit -f "$0" || :; test "$1" = 0 || ulimit -d "$1" || :; shift; exec "$@"`

// largest is the size of one file that a build on the host may write.
const largest = 8 << 30

// argv is c under its limits, in the units of ulimit (POSIX): blocks of 512 bytes, and KiB.
func argv(c Command) []string {
	return append([]string{"-c", limited, strconv.Itoa(largest / 512), strconv.FormatInt(c.Limits.Memory>>10, 10)}, c.Argv...)
}

// Run runs c in its own process group, which ends with it.
func (Host) Run(ctx context.Context, c Command) error {
	run := ctx
	if c.Limits.Time > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(ctx, c.Limits.Time)
		defer cancel()
	}
	cmd := exec.CommandContext(run, "/bin/sh", argv(c)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, c.Env, c.Output, c.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if owner := (Host{}).Owner(); owner >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(owner), Gid: uint32(owner)}
	}
	cmd.WaitDelay = settle
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if run.Err() != nil {
		return &Failure{Timeout: c.Limits.Time}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return failure(exit)
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("run %s: %w", c.Argv[0], err)
	}
	return nil
}

func failure(exit *exec.ExitError) error {
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return &Failure{Code: code}
}
