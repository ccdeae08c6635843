//go:build cgo

package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/runc/libcontainer/exeseal"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// What the stub is given, by number; see stub.c.
const (
	stubPath  = "/proc/self/fd/3"
	stubMagic = 0x53504e31
	stubLend  = 1
	stubReap  = 2
)

// seals keeps sealed files in memory: the program, and a control file for each filter that
// is in use. Containers share them; a seal keeps each from changing what the next gets.
type seals struct {
	exe *os.File

	mu       sync.Mutex
	controls map[[32]byte]*os.File
}

func (s *seals) open() error {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open the program: %w", err)
	}
	if !exeseal.IsCloned(f) {
		f.Close()
		if f, err = sealedSelf("/tmp"); err != nil {
			return err
		}
	}
	s.exe, s.controls = f, map[[32]byte]*os.File{}
	return nil
}

// A control is what the stub does before it executes the program.
type control struct {
	filter []byte
	lend   bool   // give back capabilities that were lent for loading the filter
	reap   bool   // stay as process 1
	keep   uint64 // the bounding set to leave
}

func (c control) bytes() []byte {
	b := binary.NativeEndian.AppendUint32(nil, stubMagic)
	flags := uint32(0)
	if c.lend {
		flags |= stubLend
	}
	if c.reap {
		flags |= stubReap
	}
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = binary.NativeEndian.AppendUint64(b, c.keep)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(c.filter)/8))
	b = binary.NativeEndian.AppendUint32(b, 0)
	return append(b, c.filter...)
}

const maxControls = 64 // kinds of containers at a time; one is usual

// control returns a sealed file, which stays open.
func (s *seals) control(c control) (*os.File, error) {
	b := c.bytes()
	key := sha256.Sum256(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.controls[key]; ok {
		return f, nil
	}
	f, err := exeseal.CloneBinary(bytes.NewReader(b), int64(len(b)), "seccomp", "/tmp")
	if err != nil {
		return nil, fmt.Errorf("keep a filter in memory: %w", err)
	}
	if len(s.controls) >= maxControls {
		clear(s.controls) // the files close when the starts that use them are done with them
	}
	s.controls[key] = f
	return f, nil
}

// lend gives a process without no-new-privileges the rights to load a filter; the stub takes
// them back before the program begins.
func lend(p *specs.Process) (control, *specs.LinuxCapabilities) {
	caps := p.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	if p.NoNewPrivileges {
		return control{}, caps
	}
	extra := []string{"CAP_SETPCAP", "CAP_SYS_ADMIN"}
	with := func(list []string) []string { return append(append([]string{}, list...), extra...) }
	return control{lend: true, keep: capMask(caps.Bounding)}, &specs.LinuxCapabilities{
		Bounding: with(caps.Bounding), Permitted: with(caps.Permitted), Effective: with(caps.Effective),
		Inheritable: extra, Ambient: extra,
	}
}

// A failure is what the stub reports.
type failure struct{ Stage, Errno uint32 }

const stageExec = 4

// readReport waits until the program runs, which gives nil, or could not be run.
func readReport(r io.Reader, program string) error {
	var f failure
	switch err := binary.Read(r, binary.NativeEndian, &f); {
	case err == io.EOF:
		return nil
	case err != nil:
		return fmt.Errorf("read how the start of %q went: %w", program, err)
	}
	errno := unix.Errno(f.Errno)
	switch {
	case f.Stage != stageExec:
		return fmt.Errorf("prepare the start of %q (step %d): %w", program, f.Stage, errno)
	case errno == unix.ENOENT && !strings.Contains(program, "/"):
		return fault.Invalid("the program %q is not in the container: executable file not found in $PATH", program).
			Try("check the command and the image")
	case errno == unix.ENOENT || errno == unix.ENOTDIR:
		return fault.Invalid("the program %q is not in the container, or the loader that it names is not: no such file or directory", program).
			Try("check the command and the image")
	case errno == unix.EACCES:
		return fault.Invalid("the program %q cannot be executed: permission denied", program).
			Try("it must be a file, and executable for the container's user")
	case errno == unix.ENOEXEC:
		return fault.Invalid("the program %q cannot be executed: exec format error", program).
			Try("it must be built for this machine's processor, or begin with #!")
	}
	return fault.Invalid("the program %q cannot be executed: %w", program, errno)
}
