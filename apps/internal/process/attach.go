package process

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"

	"sampan.dev/sampan/apps/internal/runner"
)

// flushTime is how long output may still come after a one-off program has ended: what it
// started may hold the streams open for ever.
const flushTime = 2 * time.Second

// attach runs a one-off program with a person's streams, and ends its session with ctx.
func attach(ctx context.Context, cmd *exec.Cmd, s runner.Streams) error {
	if s.TTY {
		return attachTerminal(ctx, cmd, s)
	}
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	cmd.WaitDelay = flushTime
	if s.Stdin != nil {
		// Wait must not wait for a person who types nothing.
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() { // ends when the person's side is closed
			io.Copy(stdin, s.Stdin)
			stdin.Close()
		}()
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { killSession(cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := cmd.Wait()
	killSession(cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

func attachTerminal(ctx context.Context, cmd *exec.Cmd, s runner.Streams) error {
	cmd.SysProcAttr.Setctty = true
	terminal, err := pty.StartWithAttrs(cmd, winsize(s.Size), cmd.SysProcAttr)
	if err != nil {
		return err
	}
	defer terminal.Close()
	stop := context.AfterFunc(ctx, func() { killSession(cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	if s.Stdin != nil {
		go io.Copy(terminal, s.Stdin) // ends when the person's side is closed
	}
	done := make(chan struct{})
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			select {
			case size, ok := <-s.Resize:
				if !ok {
					return
				}
				pty.Setsize(terminal, winsize(size))
			case <-done:
				return
			}
		}
	})
	tasks.Go(func() { io.Copy(s.Stdout, terminal) }) // EIO is the terminal's way to say the end
	err = cmd.Wait()
	killSession(cmd.Process.Pid, syscall.SIGKILL)
	close(done)
	tasks.Wait()
	return err
}

func winsize(s runner.Size) *pty.Winsize { return &pty.Winsize{Rows: s.Height, Cols: s.Width} }
