//go:build cgo

package daemon

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

// enterCgroup moves the daemon out of the server's control groups, so that what ends the
// server, limits it or counts its memory does not do so to the daemon.
func (d *Daemon) enterCgroup() error {
	m, err := d.ownCgroup()
	if err != nil {
		return err
	}
	return m.Apply(os.Getpid())
}

func (d *Daemon) ownCgroup() (cgroups.Manager, error) {
	return manager.New(&cgroups.Cgroup{
		Path:      filepath.Join(d.cgroup, "supervisor"),
		Resources: &cgroups.Resources{SkipDevices: true},
	})
}

// leaveCgroup leaves nothing behind: the last steps of the process are the root's.
func (d *Daemon) leaveCgroup() {
	m, err := d.ownCgroup()
	if err != nil {
		return
	}
	own := filepath.Join(d.cgroup, "supervisor")
	for _, path := range m.GetPaths() {
		root, ok := strings.CutSuffix(path, own)
		if !ok {
			continue
		}
		_ = cgroups.WriteCgroupProc(root, os.Getpid())
		for dir := path; dir != filepath.Clean(root); dir = filepath.Dir(dir) {
			if unix.Rmdir(dir) != nil { // another engine's are in it
				break
			}
		}
	}
}

// memoryFile is where the kernel counts what it killed for lack of memory: the name differs
// between the versions of control groups, the key in it does not.
func (r *run) memoryFile() string {
	state, err := r.box.State()
	if err != nil {
		return ""
	}
	if path, ok := state.CgroupPaths["memory"]; ok {
		return filepath.Join(path, "memory.oom_control")
	}
	return filepath.Join(state.CgroupPaths[""], "memory.events")
}

func (r *run) oomKills() uint64 {
	text, err := os.ReadFile(r.memory)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if n, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			kills, _ := strconv.ParseUint(string(bytes.TrimSpace(n)), 10, 64)
			return kills
		}
	}
	return 0
}

// watchOOM tells of processes that are killed for lack of memory while others live on.
func (c *container) watchOOM(r *run) {
	r.memory = r.memoryFile()
	resources := c.request().Spec.Linux.Resources
	if resources == nil || resources.Memory == nil || resources.Memory.Limit == nil {
		return
	}
	f, err := notifyOOM(r.memory)
	if err != nil {
		c.d.log.Warn("cannot watch for lack of memory", "container", c.id, "err", err)
		return
	}
	r.notify = f
	c.d.work.Go(func() {
		buf := make([]byte, 4096)
		for seen := uint64(0); ; {
			if _, err := f.Read(buf); err != nil { // the run is over
				return
			}
			if n := r.awaitOOM(seen); n > seen {
				seen = n
				c.change(supervisor.OnOOM, func(s *supervisor.Status) { s.OOMs = n })
			}
		}
	})
}

// awaitOOM returns the count when it has grown. Version 1 of control groups tells of the lack
// before the kernel has chosen what to kill, and not again after; that takes moments.
func (r *run) awaitOOM(seen uint64) uint64 {
	for range 100 {
		if n := r.oomKills(); n > seen {
			return n
		}
		select {
		case <-r.done:
			return seen
		case <-time.After(10 * time.Millisecond):
		}
	}
	return seen
}

// notifyOOM opens a file that can be read when a count changes: an eventfd with version 1 of
// control groups, inotify with version 2.
func notifyOOM(path string) (*os.File, error) {
	if filepath.Base(path) == "memory.events" {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, err
		}
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
			unix.Close(fd)
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	watched, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer watched.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	control := filepath.Join(filepath.Dir(path), "cgroup.event_control")
	if err := os.WriteFile(control, fmt.Appendf(nil, "%d %d", fd, watched.Fd()), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stats measures a running container.
func (c *container) stats() (supervisor.Stats, error) {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil || r.over() {
		return supervisor.Stats{}, fault.Conflict("container %s does not run", c.id)
	}
	all, err := r.box.Stats()
	if err != nil {
		return supervisor.Stats{}, fmt.Errorf("measure container %s: %w", c.id, err)
	}
	s := all.CgroupStats
	used := s.MemoryStats.Usage
	out := supervisor.Stats{
		Time: time.Now(), CPU: time.Duration(s.CpuStats.CpuUsage.TotalUsage),
		Memory: used.Usage - min(used.Usage, reclaimable(s.MemoryStats.Stats)), MemoryLimit: limit(used.Limit),
		Pids: s.PidsStats.Current, PidsLimit: limit(s.PidsStats.Limit), OOMKills: r.oomKills(), Details: details(s),
	}
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			out.Read += e.Value
		case "write":
			out.Written += e.Value
		}
	}
	return out, nil
}

func details(s *cgroups.Stats) supervisor.Details {
	used, cpu := s.MemoryStats.Usage, s.CpuStats
	d := supervisor.Details{
		User: time.Duration(cpu.CpuUsage.UsageInUsermode), Kernel: time.Duration(cpu.CpuUsage.UsageInKernelmode),
		Periods: cpu.ThrottlingData.Periods, ThrottledPeriods: cpu.ThrottlingData.ThrottledPeriods,
		Throttled:   time.Duration(cpu.ThrottlingData.ThrottledTime),
		MemoryUsage: used.Usage, MemoryMax: used.MaxUsage, MemoryFailures: used.Failcnt, MemoryStat: s.MemoryStats.Stats,
		Block: map[string][]supervisor.BlockIO{},
	}
	for _, n := range cpu.CpuUsage.PercpuUsage {
		d.PerCPU = append(d.PerCPU, time.Duration(n))
	}
	for name, list := range map[string][]cgroups.BlkioStatEntry{
		"io_service_bytes_recursive": s.BlkioStats.IoServiceBytesRecursive, "io_serviced_recursive": s.BlkioStats.IoServicedRecursive,
		"io_queue_recursive": s.BlkioStats.IoQueuedRecursive, "io_service_time_recursive": s.BlkioStats.IoServiceTimeRecursive,
		"io_wait_time_recursive": s.BlkioStats.IoWaitTimeRecursive, "io_merged_recursive": s.BlkioStats.IoMergedRecursive,
		"io_time_recursive": s.BlkioStats.IoTimeRecursive, "sectors_recursive": s.BlkioStats.SectorsRecursive,
	} {
		for _, e := range list {
			d.Block[name] = append(d.Block[name], supervisor.BlockIO(e))
		}
	}
	return d
}

// pids are the processes of a run.
func (c *container) pids() ([]int, error) {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil || r.over() {
		return nil, fault.Conflict("container %s does not run", c.id)
	}
	pids, err := r.box.Processes()
	if err != nil {
		return nil, fmt.Errorf("list the processes of container %s: %w", c.id, err)
	}
	return pids, nil
}

// reclaimable is the page cache that can go, by the name of either version.
func reclaimable(stat map[string]uint64) uint64 {
	if n, ok := stat["total_inactive_file"]; ok {
		return n
	}
	return stat["inactive_file"]
}

// limit is zero for what the kernel writes when there is none.
func limit(n uint64) uint64 {
	if n >= math.MaxInt64-uint64(os.Getpagesize()) {
		return 0
	}
	return n
}

// pause freezes, resume thaws.
func (c *container) pause() error {
	c.op.Lock()
	defer c.op.Unlock()
	r, err := c.running()
	if err != nil {
		return err
	}
	if err := r.box.Pause(); err != nil {
		return fmt.Errorf("pause container %s: %w", c.id, err)
	}
	return c.setPaused(r, supervisor.Paused, supervisor.OnPause)
}

func (c *container) resume() error {
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	r, state := c.run, c.status.State
	c.mu.Unlock()
	if state != supervisor.Paused {
		return fault.Conflict("container %s is not paused", c.id)
	}
	if err := r.box.Resume(); err != nil {
		return fmt.Errorf("resume container %s: %w", c.id, err)
	}
	return c.setPaused(r, supervisor.Running, supervisor.OnResume)
}

func (c *container) setPaused(r *run, to supervisor.State, action string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.over() {
		return fault.Conflict("container %s has ended meanwhile", c.id)
	}
	c.status.State = to
	c.announce(action)
	return nil
}

// update changes limits and the restart policy, of this run and those to come.
func (c *container) update(u supervisor.Update) error {
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	req, r := c.req, c.run
	c.mu.Unlock()
	if u.Restart != nil {
		req.Restart = *u.Restart
	}
	if u.Resources != nil {
		spec, linux := *req.Spec, *req.Spec.Linux
		linux.Resources = merge(linux.Resources, u.Resources)
		spec.Linux, req.Spec = &linux, &spec
		if r != nil && !r.over() {
			if err := r.limit(linux.Resources); err != nil {
				return fmt.Errorf("change the limits of container %s: %w", c.id, err)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.req = req
	c.announce(supervisor.OnUpdate)
	return full(c.saveRequest())
}

// merge lays what is set over what was; devices stay.
func merge(was, now *specs.LinuxResources) *specs.LinuxResources {
	merged := specs.LinuxResources{}
	if was != nil {
		merged = *was
	}
	if now.Memory != nil {
		merged.Memory = now.Memory
	}
	if now.CPU != nil {
		merged.CPU = now.CPU
	}
	if now.Pids != nil {
		merged.Pids = now.Pids
	}
	if now.BlockIO != nil {
		merged.BlockIO = now.BlockIO
	}
	return &merged
}

// limit sets the control groups of a run.
func (r *run) limit(want *specs.LinuxResources) error {
	cfg := r.box.Config()
	group, resources := *cfg.Cgroups, *cfg.Cgroups.Resources
	if m := want.Memory; m != nil {
		resources.Memory, resources.MemorySwap = value(m.Limit), value(m.Swap)
		resources.MemoryReservation = value(m.Reservation)
	}
	if b := want.BlockIO; b != nil {
		resources.BlkioWeight = value(b.Weight)
	}
	if p := want.Pids; p != nil {
		resources.PidsLimit = p.Limit
	}
	if p := want.CPU; p != nil {
		resources.CpuQuota, resources.CpuPeriod, resources.CpuShares = value(p.Quota), value(p.Period), value(p.Shares)
		resources.CpuWeight = 0 // counted from the shares anew
		resources.CpusetCpus, resources.CpusetMems = p.Cpus, p.Mems
	}
	resources.SkipDevices = true
	group.Resources, cfg.Cgroups = &resources, &group
	err := r.box.Set(cfg)
	resources.SkipDevices = false
	return err
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
