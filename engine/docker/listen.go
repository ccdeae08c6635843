package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// Group is that of those who may use the socket, where the machine has it.
const Group = "docker"

// Listen opens the unix socket for root and Group. One that a dead server left behind is replaced;
// that of a living one is not.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the Docker socket: %w", err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("lock the Docker socket: %w", err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Nobody may connect before the owner and the mode are right.
	made := path + ".new"
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on the Docker socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the Docker socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(permit(made), os.Rename(made, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on the Docker socket: %w", err), l.Close(), os.Remove(made))
	}
	return &listener{UnixListener: l, path: path, inode: inodeOf(path)}, nil
}

// listener removes its socket at its end, unless another one took the place.
type listener struct {
	*net.UnixListener
	path  string
	inode uint64
}

func (l *listener) Close() error {
	if inodeOf(l.path) == l.inode {
		_ = os.Remove(l.path) // what stays is stale, and removed by the next one
	}
	return l.UnixListener.Close()
}

func inodeOf(path string) uint64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// lock lets one process at a time decide whose the socket is.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// removeStale takes away a socket that nobody answers at.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the Docker socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.Conflict("%s is there and is not a socket", path).Try("choose another path, or move it away")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.Conflict("another program answers at %s", path).Try("stop it, or choose another path")
	}
	return os.Remove(path)
}

// permit lets root and Group in.
func permit(path string) error {
	if g, err := user.LookupGroup(Group); err == nil {
		id, err := strconv.Atoi(g.Gid)
		if err != nil {
			return err
		}
		if err := os.Chown(path, -1, id); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o660)
}
