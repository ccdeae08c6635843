package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// Host runs commands as processes of this machine.
type Host struct{}

func (Host) See(m Mount) string { return m.Host }
func (Host) Owner() int         { return -1 }
func (Host) Contained() bool    { return false }

// settle is how long the rest of a process group may hold the output open after its end.
const settle = 2 * time.Second

// Run runs c in its own process group, which ends with it.
func (Host) Run(ctx context.Context, c Command) error {
	run := ctx
	if c.Limits.Time > 0 {
		var cancel context.CancelFunc
		run, cancel = context.WithTimeout(ctx, c.Limits.Time)
		defer cancel()
	}
	cmd := exec.CommandContext(run, c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, c.Env, c.Output, c.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = settle
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	limitErr := limit(cmd.Process.Pid, c.Limits)
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
	return limitErr
}

func failure(exit *exec.ExitError) error {
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return &Failure{Code: code}
}
