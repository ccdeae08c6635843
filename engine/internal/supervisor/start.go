package supervisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Start returns a client of the sampan-init that serves cfg.Dir, and starts one if none does.
// One from another file than cfg.Init is replaced if no container runs, and otherwise used as
// it is: its containers depend on it.
func Start(ctx context.Context, cfg Config) (*Client, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the directory of the supervisor: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the supervisor: %w", err)
	}
	if c, err := Connect(ctx, dir); err == nil {
		if c.program == cfg.Init || c.Shutdown(ctx) != nil {
			return c, nil
		}
	}
	if cfg.Cgroup == "" {
		sum := sha256.Sum256([]byte(dir))
		cfg.Cgroup = "/sampan/" + hex.EncodeToString(sum[:6])
	}
	if err := spawn(ctx, cfg.Init, dir, cfg.Cgroup); err != nil {
		// Another server may have been quicker with the same directory.
		if c, again := Connect(ctx, dir); again == nil {
			return c, nil
		}
		return nil, err
	}
	c, err := Connect(ctx, dir)
	if err == nil && cfg.Log != nil {
		cfg.Log.Info("sampan-init started", "pid", c.pid)
	}
	return c, err
}

// spawn runs the short-lived process that starts the one that stays.
func spawn(ctx context.Context, program, dir, cgroup string) error {
	cmd := exec.CommandContext(ctx, program, "start", dir, cgroup, program)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start sampan-init: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// awaitEnd returns when process pid has ended.
func awaitEnd(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the end of sampan-init: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("wait for the end of sampan-init: %w", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for the end of sampan-init: %w", err)
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
