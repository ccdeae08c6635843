//go:build cgo

package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runc/libcontainer/exeseal"
)

// maxLog is where the daemon's own log starts over; it says little.
const maxLog = 1 << 20

// Spawn starts a daemon in a session of its own and returns when it serves. The caller exits
// then, so that the daemon's parent becomes process 1 and not the server, which may die.
//
// The daemon runs from a sealed copy in memory: libcontainer then need not make one in each
// start, and a replaced file on disk does not mix versions.
func Spawn(cfg Config) error {
	self, err := sealedSelf(cfg.Dir)
	if err != nil {
		return err
	}
	defer self.Close()
	log, err := openLog(filepath.Join(cfg.Dir, "sampan-init.log"))
	if err != nil {
		return fmt.Errorf("open the log of sampan-init: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	// The copy is passed on, and named by its number there: exec.Cmd may move other files to
	// the number that it has here.
	cmd := exec.Command("/proc/self/fd/4", "serve", cfg.Dir, cfg.Cgroup, cfg.Program)
	cmd.Args[0] = "sampan-init"
	cmd.Dir, cmd.Stderr = "/", log
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.ExtraFiles = []*os.File{w, self}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	return awaitReady(r)
}

func sealedSelf(dir string) (*os.File, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("open the program: %w", err)
	}
	defer self.Close()
	info, err := self.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the program: %w", err)
	}
	sealed, err := exeseal.CloneBinary(self, info.Size(), "sampan-init", dir)
	if err != nil {
		return nil, fmt.Errorf("copy the program into memory: %w", err)
	}
	return sealed, nil
}

func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

// A ready tells Spawn how the start went, once.
type ready struct{ pipe *os.File }

func newReady() ready {
	syscall.CloseOnExec(readyFD)
	syscall.Close(readyFD + 1) // the copy of the program; /proc/self/exe is the same
	return ready{os.NewFile(readyFD, "ready")}
}

func (r ready) say(err error) {
	word := "ok"
	if err != nil {
		word = err.Error()
	}
	_, _ = io.WriteString(r.pipe, word) // a starter that died does not matter any more
	r.pipe.Close()
}

func awaitReady(r io.Reader) error {
	word, err := io.ReadAll(io.LimitReader(r, 4096))
	switch {
	case err != nil:
		return fmt.Errorf("wait for the supervisor: %w", err)
	case len(word) == 0:
		return errors.New("the supervisor died at its start; its log may say why")
	case string(word) != "ok":
		return errors.New(strings.TrimSpace(string(word)))
	}
	return nil
}
