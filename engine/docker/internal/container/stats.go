package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// stats tells once a second what a container uses, or once: then it waits a second, so that
// there is a difference to tell, unless the client wants it at once.
func (s *Service) stats(w http.ResponseWriter, r *http.Request) error {
	stream := api.BoolOr(r, "stream", true)
	oneShot := api.AtLeast(r, "1.41") && api.Bool(r, "one-shot")
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if stream && oneShot {
		return fault.Invalid("cannot have stream=true and one-shot=true")
	}
	out := api.Stream(w)
	if stream {
		out.Begin()
	}
	sampler := sampler{engine: s.engine, container: c}
	if !stream {
		return sampler.once(r.Context(), oneShot || !running(c), out)
	}
	return sampler.repeat(r.Context(), out)
}

// A sampler remembers the sample before.
type sampler struct {
	engine    *engine.Engine
	container engine.Container
	last      container.StatsResponse
}

func (s *sampler) once(ctx context.Context, atOnce bool, out *api.JSONStream) error {
	now, err := s.sample(ctx)
	if err == nil && !atOnce {
		if err = pause(ctx, time.Second); err == nil {
			now, err = s.sample(ctx)
		}
	}
	if err != nil {
		return err
	}
	return out.Send(now)
}

// repeat goes on while the container is there. One that does not run uses nothing.
func (s *sampler) repeat(ctx context.Context, out *api.JSONStream) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now, err := s.sample(ctx)
		switch {
		case ctx.Err() != nil, fault.Is(err, fault.KindNotFound):
			return nil
		case err != nil:
			return err
		}
		if err := out.Send(now); err != nil {
			return nil // the client is gone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sampler) sample(ctx context.Context) (container.StatsResponse, error) {
	now := container.StatsResponse{ID: s.container.ID, Name: "/" + s.container.Name, OSType: "linux"}
	used, err := s.engine.Stats(ctx, s.container.ID)
	if fault.Is(err, fault.KindConflict) { // it does not run
		s.last = container.StatsResponse{}
		_, err := s.engine.Container(ctx, s.container.ID)
		return now, err
	}
	if err != nil {
		return now, err
	}
	now.Read, now.PreRead, now.PreCPUStats = used.Time, s.last.Read, s.last.CPUStats
	if now.CPUStats, err = cpuStats(used); err != nil {
		return now, err
	}
	if now.MemoryStats, err = memoryStats(used); err != nil {
		return now, err
	}
	now.PidsStats = container.PidsStats{Current: used.Pids, Limit: used.PidsLimit}
	now.BlkioStats = blockStats(used)
	now.Networks = networkStats(used)
	s.last = now
	return now, nil
}

func cpuStats(used engine.Stats) (container.CPUStats, error) {
	system, online, err := machineTime()
	if err != nil {
		return container.CPUStats{}, err
	}
	d := used.Details
	c := container.CPUStats{
		SystemUsage: system, OnlineCPUs: online,
		CPUUsage: container.CPUUsage{
			TotalUsage: uint64(used.CPU), UsageInKernelmode: uint64(d.Kernel), UsageInUsermode: uint64(d.User),
		},
		ThrottlingData: container.ThrottlingData{
			Periods: d.Periods, ThrottledPeriods: d.ThrottledPeriods, ThrottledTime: uint64(d.Throttled),
		},
	}
	for _, t := range d.PerCPU {
		c.CPUUsage.PercpuUsage = append(c.CPUUsage.PercpuUsage, uint64(t))
	}
	return c, nil
}

// machineTime is the time that all processors of the machine have spent, idle or not, and their
// number (proc_stat(5)).
func machineTime() (nanoseconds uint64, online uint32, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read the machine's processor time: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 7 && fields[0] == "cpu":
			for _, text := range fields[1:8] {
				n, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					return 0, 0, fmt.Errorf("read the machine's processor time: %w", err)
				}
				nanoseconds += n * uint64(time.Second/userHz)
			}
		case len(fields) > 0 && strings.HasPrefix(fields[0], "cpu"):
			online++
		}
	}
	if online == 0 {
		online = uint32(runtime.NumCPU())
	}
	return nanoseconds, online, lines.Err()
}

// userHz is the unit of /proc/stat on all of Linux's machines that Go runs on.
const userHz = 100

// memoryStats names the machine's memory as the limit of those that have none.
func memoryStats(used engine.Stats) (container.MemoryStats, error) {
	d := used.Details
	m := container.MemoryStats{
		Usage: d.MemoryUsage, MaxUsage: d.MemoryMax, Stats: d.MemoryStat, Failcnt: d.MemoryFailures, Limit: used.MemoryLimit,
	}
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		return m, errors.Join(errors.New("read the size of the machine's memory"), err)
	}
	if all := machine.Totalram * uint64(machine.Unit); m.Limit == 0 || m.Limit > all {
		m.Limit = all
	}
	return m, nil
}

func blockStats(used engine.Stats) container.BlkioStats {
	var b container.BlkioStats
	for name, to := range map[string]*[]container.BlkioStatEntry{
		"io_service_bytes_recursive": &b.IoServiceBytesRecursive, "io_serviced_recursive": &b.IoServicedRecursive,
		"io_queue_recursive": &b.IoQueuedRecursive, "io_service_time_recursive": &b.IoServiceTimeRecursive,
		"io_wait_time_recursive": &b.IoWaitTimeRecursive, "io_merged_recursive": &b.IoMergedRecursive,
		"io_time_recursive": &b.IoTimeRecursive, "sectors_recursive": &b.SectorsRecursive,
	} {
		for _, e := range used.Details.Block[name] {
			*to = append(*to, container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
		}
	}
	return b
}

func networkStats(used engine.Stats) map[string]container.NetworkStats {
	all := map[string]container.NetworkStats{}
	for _, t := range used.Networks {
		all[t.Interface] = container.NetworkStats{
			RxBytes: t.Received, RxPackets: t.ReceivedPackets, RxErrors: t.ReceivedErrors, RxDropped: t.ReceivedDropped,
			TxBytes: t.Sent, TxPackets: t.SentPackets, TxErrors: t.SentErrors, TxDropped: t.SentDropped,
		}
	}
	return all
}
