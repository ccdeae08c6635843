package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/apps/internal/sockets"
)

// Fields of proc_pid_stat, counted from the one after the name in parentheses.
const (
	statState   = 0
	statSession = 3
	statUser    = 11
	statSystem  = 12
	statStart   = 19
	statRSS     = 21
)

// ticks of a second in proc_pid_stat (USER_HZ), the same on every Linux that Go runs on.
const ticks = 100

// guardPause is how often the memory of an instance with a limit is looked at: without
// containers nobody else does.
const guardPause = 250 * time.Millisecond

// stat reads the fields of a process after its name.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return nil
	}
	if fields := strings.Fields(string(text[end+1:])); len(fields) > statRSS {
		return fields
	}
	return nil
}

// birth is when a process started, "" when there is none or only its exit status is left.
func birth(pid int) string {
	f := stat(pid)
	if f == nil || f[statState] == "Z" || f[statState] == "X" {
		return ""
	}
	return f[statStart]
}

// session lists the processes of a session.
func session(leader int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	want := strconv.Itoa(leader)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := stat(pid); f != nil && f[statSession] == want {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killSession signals the leader's process group, and whatever else is in its session.
func killSession(leader int, s syscall.Signal) {
	for _, pid := range session(leader) {
		if pid != leader || s == syscall.SIGKILL {
			syscall.Kill(pid, s)
		}
	}
}

// A gone is a process that is waited for, whoever its parent is.
type gone struct{ fd, wake int }

// watch opens the process with that birth. One that is not there any more has ended.
func watch(pid int, born string) (gone, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || (err == nil && (born == "" || birth(pid) != born)) {
		if err == nil {
			unix.Close(fd)
		}
		return gone{fd: -1, wake: -1}, nil
	}
	if err != nil {
		return gone{}, fmt.Errorf("open process %d: %w", pid, err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return gone{}, errors.Join(fmt.Errorf("watch process %d: %w", pid, err), unix.Close(fd))
	}
	return gone{fd, wake}, nil
}

// wait returns true when the process has ended, false when ctx has.
func (g gone) wait(ctx context.Context) bool {
	if g.fd < 0 {
		return true
	}
	stop := context.AfterFunc(ctx, func() { unix.Write(g.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	fds := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}, {Fd: int32(g.wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if fds[0].Revents != 0 {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
}

func (g gone) close() {
	if g.fd >= 0 {
		unix.Close(g.fd)
		unix.Close(g.wake)
	}
}

// reap takes the exit status of a child, so that it does not stay as a zombie. For the child
// of an earlier server there is nothing to take.
func reap(pid int) {
	var status syscall.WaitStatus
	syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
}

// guard ends an instance that uses more memory than its limit.
func (r *Runner) guard(in *instance) (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(guardPause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, memory := usage(in.Pid); memory > in.Limit {
				r.mu.Lock()
				in.oom = true
				r.mu.Unlock()
				killSession(in.Pid, syscall.SIGKILL)
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// usage adds up what the processes of a session use.
func usage(leader int) (cpu time.Duration, memory int64) {
	for _, pid := range session(leader) {
		f := stat(pid)
		if f == nil {
			continue
		}
		user, _ := strconv.ParseInt(f[statUser], 10, 64)
		system, _ := strconv.ParseInt(f[statSystem], 10, 64)
		pages, _ := strconv.ParseInt(f[statRSS], 10, 64)
		cpu += time.Duration(user+system) * time.Second / ticks
		memory += pages * int64(os.Getpagesize())
	}
	return cpu, memory
}

// Stats implements [runner.Runner].
func (r *Runner) Stats(ctx context.Context, id string) (runner.Stats, error) {
	in, err := r.find(id)
	if err != nil {
		return runner.Stats{}, err
	}
	cpu, memory := usage(in.Pid)
	return runner.Stats{CPU: cpu, Memory: memory, MemoryLimit: in.Limit}, nil
}

// Listening implements [runner.Runner].
func (r *Runner) Listening(ctx context.Context, id string) ([]netip.AddrPort, error) {
	in, err := r.find(id)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, pid := range session(in.Pid) {
		inodes, err := sockets.Inodes(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		for inode := range inodes {
			held[inode] = true
		}
	}
	all, err := sockets.Of(os.Getpid())
	all = slices.DeleteFunc(all, func(s sockets.Socket) bool { return !held[s.Inode] })
	var list []netip.AddrPort
	for _, s := range all {
		list = append(list, s.Addr)
	}
	return list, err
}
