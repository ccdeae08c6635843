//go:build cgo

package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// A child holds files that are closed here once the process has them.
type child struct {
	files  []*os.File
	report *os.File // this side's end
}

func (c *child) keep(f *os.File) *os.File {
	c.files = append(c.files, f)
	return f
}

func (c *child) close() { closeAll(c.files...) }

// terminal asks for a terminal; its master will come through the returned socket.
func (c *child) terminal(p *libcontainer.Process) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket for the terminal: %w", err)
	}
	p.ConsoleSocket = c.keep(os.NewFile(uintptr(fds[1]), "console"))
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

// receive takes the one file that comes through a socket.
func receive(socket *os.File) (*os.File, error) {
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), name, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("receive the terminal: none came"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("receive the terminal: none came"), err)
	}
	return pollable(fds[0], "terminal")
}

// pollable makes a file whose waits cost no thread.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// process describes a process that begins with the stub, without its streams.
func (d *Daemon) process(s *specs.Process, filter []byte, reap bool) (*libcontainer.Process, *child, error) {
	ctl, caps := lend(s)
	ctl.filter, ctl.reap = filter, reap
	controlFile, err := d.seals.control(ctl)
	if err != nil {
		return nil, nil, err
	}
	limits, err := rlimits(s.Rlimits)
	if err != nil {
		return nil, nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	p := &libcontainer.Process{
		Args:            append([]string{stubPath, "exec"}, s.Args...),
		Env:             s.Env,
		UID:             int(s.User.UID),
		GID:             int(s.User.GID),
		Cwd:             s.Cwd,
		ExtraFiles:      []*os.File{d.seals.exe, controlFile, writer},
		NoNewPrivileges: &s.NoNewPrivileges,
		Rlimits:         limits,
		Capabilities: &configs.Capabilities{
			Bounding: caps.Bounding, Effective: caps.Effective, Permitted: caps.Permitted,
			Inheritable: caps.Inheritable, Ambient: caps.Ambient,
		},
	}
	for _, gid := range s.User.AdditionalGids {
		p.AdditionalGroups = append(p.AdditionalGroups, int(gid))
	}
	if s.ConsoleSize != nil {
		p.ConsoleWidth, p.ConsoleHeight = uint16(s.ConsoleSize.Width), uint16(s.ConsoleSize.Height)
	}
	return p, &child{files: []*os.File{writer}, report: reader}, nil
}

func rlimits(list []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	kinds := map[string]int{
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
		"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE,
		"RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
		"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
	}
	var out []configs.Rlimit
	for _, l := range list {
		kind, ok := kinds[l.Type]
		if !ok {
			return nil, fault.Invalid("%q is not a limit of a process", l.Type)
		}
		out = append(out, configs.Rlimit{Type: kind, Soft: l.Soft, Hard: l.Hard})
	}
	return out, nil
}

// capMask has a bit for each name that the kernel knows.
func capMask(names []string) uint64 {
	var mask uint64
	for _, known := range capability.ListKnown() {
		for _, name := range names {
			if strings.EqualFold(name, "CAP_"+known.String()) {
				mask |= 1 << uint(known)
			}
		}
	}
	return mask
}

// openPidfd opens a handle of a process that the poller can wait for.
func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return pollable(fd, "pidfd")
}

// awaitExit returns when the process of a pidfd has ended.
func awaitExit(pidfd *os.File) error {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// withFD uses the number of a file that others may close meanwhile.
func withFD(f *os.File, use func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var used error
	err = conn.Control(func(fd uintptr) { used = use(int(fd)) })
	return errors.Join(err, used)
}

// sendSignal can never reach another process that got the same number.
func sendSignal(pidfd *os.File, sig unix.Signal) error {
	return withFD(pidfd, func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
}

// wait returns the exit code of the first process.
func (r *run) wait() int {
	if err := awaitExit(r.pidfd); err != nil {
		r.c.d.log.Warn("wait for a process", "container", r.c.id, "err", err)
	}
	if r.process == nil {
		return codeOfStranger(r.pidfd)
	}
	return reap(r.process)
}

// reap collects a child that has ended, which does not block.
func reap(p *libcontainer.Process) int {
	state, _ := p.Wait() // any code but 0 is an error to it
	if state == nil {
		return exitUnseen
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return exitUnseen
	}
	return code(unix.WaitStatus(status))
}

// exitUnseen is the code of an end that nobody saw.
const exitUnseen = 255

// codeOfStranger asks the kernel how a process that is not our child ended: Linux 6.15 and
// later remember it for holders of a pidfd.
func codeOfStranger(pidfd *os.File) int {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := withFD(pidfd, func(fd int) error { return unix.IoctlPidfdInfo(fd, &info) })
	if err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return exitUnseen
	}
	return code(unix.WaitStatus(info.Exit_code))
}

// code is a wait status as shells write it.
func code(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// allCapabilities are those that the kernel knows and this process can hand on.
func allCapabilities() []string {
	var names []string
	supported, err := capability.ListSupported()
	if err != nil {
		return nil
	}
	mine, err := capability.NewPid2(0)
	if err != nil || mine.Load() != nil {
		return nil
	}
	for _, c := range supported {
		if mine.Get(capability.PERMITTED, c) {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names
}
