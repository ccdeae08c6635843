package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"sampan.dev/sampan/internal/fault"
)

const (
	maxOutput = 64 << 20 // of a command whose whole output is kept
	maxStderr = 8 << 10
)

// errCut ends a command whose output was longer than its reader wanted.
var errCut = errors.New("output cut")

// take waits for a token. The wait is short: a machine that cannot start a process
// within it is better told to the client than hidden.
func take(ctx context.Context, tokens chan struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(30 * time.Second)
	defer t.Stop()
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fault.Unavailable("too many git operations are under way").Try("try again in a minute")
	}
}

func (r Repo) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.g.binary, args...)
	cmd.Dir = r.dir
	cmd.Env = append(r.g.env[:len(r.g.env):len(r.g.env)], "GIT_DIR="+r.dir)
	cmd.Env = append(cmd.Env, r.env...)
	cmd.SysProcAttr = attributes()
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run starts git, gives it stdin and stdout, and waits. The error carries the last of
// what it wrote to stderr, in its own words.
func (r Repo) run(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	if err := take(ctx, r.g.work); err != nil {
		return err
	}
	defer func() { <-r.g.work }()
	ctx, cancel := context.WithTimeout(ctx, r.g.cfg.Timeout)
	defer cancel()
	cmd := r.command(ctx, args)
	errs := &tail{max: maxStderr}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, errs
	return failure(ctx, args[0], cmd.Run(), errs)
}

// output is run for commands whose answer is short.
func (r Repo) output(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := r.run(ctx, stdin, &cutter{w: &out, left: maxOutput}, args...)
	return out.Bytes(), err
}

// failure names the command that failed; a context that ended is the reason by itself.
func failure(ctx context.Context, name string, err error, errs *tail) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", name, context.Cause(ctx))
	}
	text := strings.TrimSpace(errs.String())
	if strings.Contains(text, "No space left on device") {
		return fault.Full("the server's disk is full").Try("free some space, then push again; nothing that was accepted is lost")
	}
	return &CommandError{Name: name, Stderr: text, Err: err}
}

// A CommandError is a git command that failed.
type CommandError struct {
	Name   string
	Stderr string
	Err    error
}

func (e *CommandError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("git %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("git %s: %s", e.Name, e.Stderr)
}

func (e *CommandError) Unwrap() error { return e.Err }

// tail keeps the end of what is written to it.
type tail struct {
	max int
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.max {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.max:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	return strings.ToValidUTF8(string(t.buf[max(0, len(t.buf)-t.max):]), "?")
}

// cutter passes on so many bytes and then refuses, which ends the command.
type cutter struct {
	w    io.Writer
	left int64
}

func (c *cutter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		n, _ := c.w.Write(p[:c.left])
		c.left = 0
		return n, errCut
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	return n, err
}
