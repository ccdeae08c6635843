package container

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// check refuses what Docker refuses, in its words.
func (q *request) check() error {
	c, h := q.Config, q.HostConfig
	if len(c.Entrypoint)+len(c.Cmd) == 0 {
		return fault.Invalid("no command specified")
	}
	for _, v := range c.Env {
		if v == "" || v[0] == '=' {
			return fault.Invalid("invalid environment variable: %s", v)
		}
	}
	if h.ShmSize < 0 {
		return fault.Invalid("SHM size can not be less than 0")
	}
	if err := checkHealth(c.Healthcheck); err != nil {
		return err
	}
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return fault.Invalid("%w", err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return fault.Invalid("can't create 'AutoRemove' container with restart policy")
	}
	if h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000 {
		return fault.Invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	}
	if err := checkModes(c, h); err != nil {
		return err
	}
	return checkUnsupported(h)
}

func checkModes(c *container.Config, h *container.HostConfig) error {
	switch {
	case !h.Isolation.IsValid():
		return fault.Invalid("invalid isolation (%s): linux only supports 'default'", h.Isolation)
	case !h.PidMode.Valid():
		return fault.Invalid("invalid PID mode: %s", h.PidMode)
	case !h.IpcMode.Valid():
		return fault.Invalid("invalid IPC mode: %s", h.IpcMode)
	case !h.UTSMode.Valid():
		return fault.Invalid("invalid UTS mode: %s", h.UTSMode)
	case !h.CgroupnsMode.Valid():
		return fault.Invalid("invalid cgroup namespace mode: %s", h.CgroupnsMode)
	case !h.UsernsMode.Valid():
		return fault.Invalid("invalid user namespace mode: %s", h.UsernsMode)
	case h.UTSMode.IsHost() && c.Hostname != "":
		return fault.Invalid("conflicting options: hostname and the UTS mode")
	case h.NetworkMode.IsHost() && len(h.Links) > 0:
		return fault.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	case h.NetworkMode.IsContainer():
		return checkSharedNetwork(c, h)
	}
	return nil
}

func checkSharedNetwork(c *container.Config, h *container.HostConfig) error {
	switch {
	case h.NetworkMode.ConnectedContainer() == "":
		return fault.Invalid("invalid network mode: invalid container format container:<name|id>")
	case c.Hostname != "":
		return fault.Invalid("conflicting options: hostname and the network mode")
	case len(h.Links) > 0:
		return fault.Invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(h.DNS) > 0:
		return fault.Invalid("conflicting options: dns and the network mode")
	case len(h.ExtraHosts) > 0:
		return fault.Invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return fault.Invalid("conflicting options: port publishing and the container type network mode")
	}
	return nil
}

// checkUnsupported says what this engine does not have, where leaving it out would surprise.
func checkUnsupported(h *container.HostConfig) error {
	switch h.Runtime {
	case "", "runc", "io.containerd.runc.v2":
	default:
		return fault.Invalid("unknown or invalid runtime name: %s", h.Runtime)
	}
	switch {
	case len(h.DeviceRequests) > 0:
		return fault.Invalid("could not select device driver %q with capabilities: %v", h.DeviceRequests[0].Driver, h.DeviceRequests[0].Capabilities)
	case len(h.StorageOpt) > 0:
		return fault.Invalid("--storage-opt is not supported by this engine")
	case h.Umask != nil:
		return fault.Invalid("a umask is not supported by this engine")
	case h.Cgroup != "":
		return fault.Invalid("sharing another container's cgroup is not supported by this engine")
	case h.IOMaximumBandwidth != 0 || h.IOMaximumIOps != 0 || h.CPUCount != 0 || h.CPUPercent != 0:
		return fault.Invalid("limits of Windows containers are not supported on linux")
	}
	return nil
}

func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if f.value != 0 && f.value < container.MinimumDuration {
			return fault.Invalid("%s in Healthcheck cannot be less than %s", f.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return fault.Invalid("Retries in Healthcheck cannot be negative")
	}
	return nil
}

func healthOf(h *container.HealthConfig) *engine.Health {
	if h == nil {
		return nil
	}
	return &engine.Health{
		Command: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

func restartOf(p container.RestartPolicy) engine.Restart {
	return engine.Restart{Policy: string(p.Name), Max: p.MaximumRetryCount}
}

// graceOf is a number of seconds as the engine means it, for which zero is the container's own.
func graceOf(seconds *int) time.Duration {
	switch {
	case seconds == nil:
		return 0
	case *seconds < 0:
		return -1
	case *seconds == 0:
		return time.Nanosecond
	}
	return time.Duration(*seconds) * time.Second
}

const minMemory = 6 << 20

// limits puts those that are asked for over those that there were.
func limits(l engine.Limits, r container.Resources) (engine.Limits, error) {
	if err := memory(&l, r); err != nil {
		return l, err
	}
	if err := processors(&l, r); err != nil {
		return l, err
	}
	if r.PidsLimit != nil {
		l.Pids = max(*r.PidsLimit, 0)
	}
	if len(r.Ulimits) > 0 {
		l.Ulimits = nil
	}
	if hasNull(r) {
		return l, fault.Invalid("a limit is null").Try("leave it out")
	}
	for _, u := range r.Ulimits {
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			return l, fault.Invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		l.Ulimits = append(l.Ulimits, engine.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return l, blocks(&l, r)
}

func hasNull(r container.Resources) bool {
	for _, list := range [][]*blkiodev.ThrottleDevice{r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps} {
		if slices.Contains(list, nil) {
			return true
		}
	}
	return slices.Contains(r.Ulimits, nil) || slices.Contains(r.BlkioWeightDevice, nil)
}

func memory(l *engine.Limits, r container.Resources) error {
	total := l.Memory + l.Swap
	if l.Swap < 0 {
		total = -1
	}
	if r.MemorySwap != 0 {
		total = r.MemorySwap
	}
	limit := l.Memory
	if r.Memory != 0 {
		limit = r.Memory
	}
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return fault.Invalid("Minimum memory limit allowed is 6MB")
	case limit == 0 && r.MemorySwap > 0:
		return fault.Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwap > 0 && r.MemorySwap < limit:
		return fault.Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case l.Memory > 0 && total > 0 && total < limit:
		return fault.Invalid("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	case r.MemoryReservation > 0 && limit > 0 && r.MemoryReservation > limit:
		return fault.Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	l.Memory, l.Swap = limit, -1
	if total >= 0 {
		l.Swap = max(total-limit, 0)
	}
	if limit == 0 {
		l.Swap = 0
	}
	if r.MemoryReservation != 0 {
		l.Reservation = r.MemoryReservation
	}
	if n := r.MemorySwappiness; n != nil && *n != -1 {
		if *n < 0 || *n > 100 {
			return fault.Invalid("Invalid value: %d, valid memory swappiness range is 0-100", *n)
		}
		l.Swappiness = n
	}
	if r.OomKillDisable != nil {
		l.NoOOMKill = *r.OomKillDisable
	}
	return nil
}

func processors(l *engine.Limits, r container.Resources) error {
	if err := checkProcessors(*l, r); err != nil {
		return err
	}
	if r.NanoCPUs > 0 {
		l.CPUs, l.CPUPeriod, l.CPUQuota = float64(r.NanoCPUs)/1e9, 0, 0
	}
	if r.CPUPeriod > 0 {
		l.CPUPeriod = uint64(r.CPUPeriod)
	}
	if r.CPUQuota != 0 {
		l.CPUQuota = r.CPUQuota
	}
	if r.CPUShares > 0 {
		l.CPUShares = uint64(r.CPUShares)
	}
	if r.CpusetCpus != "" {
		l.CPUSet = r.CpusetCpus
	}
	if r.CpusetMems != "" {
		l.MemSet = r.CpusetMems
	}
	if r.CPURealtimePeriod != 0 {
		l.Realtime.Period = uint64(r.CPURealtimePeriod)
	}
	if r.CPURealtimeRuntime != 0 {
		l.Realtime.Runtime = r.CPURealtimeRuntime
	}
	return nil
}

func checkProcessors(l engine.Limits, r container.Resources) error {
	switch {
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(runtime.NumCPU())*1e9:
		return fault.Invalid("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", runtime.NumCPU(), runtime.NumCPU())
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return fault.Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return fault.Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs > 0 && (l.CPUPeriod > 0 || l.CPUQuota > 0):
		return fault.Invalid("Conflicting options: Nano CPUs cannot be updated as CPU Period or CPU Quota has already been set")
	case (r.CPUPeriod > 0 || r.CPUQuota > 0) && l.CPUs > 0:
		return fault.Invalid("Conflicting options: CPU Period and CPU Quota cannot be updated as NanoCPUs has already been set")
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return fault.Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return fault.Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return fault.Invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return fault.Invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	return nil
}

func blocks(l *engine.Limits, r container.Resources) error {
	if r.BlkioWeight != 0 {
		if r.BlkioWeight < 10 || r.BlkioWeight > 1000 {
			return fault.Invalid("Range of blkio weight is from 10 to 1000")
		}
		l.BlockWeight = r.BlkioWeight
	}
	if len(r.BlkioWeightDevice) > 0 {
		l.BlockWeights = nil
		for _, d := range r.BlkioWeightDevice {
			l.BlockWeights = append(l.BlockWeights, engine.BlockLimit{Path: d.Path, Rate: uint64(d.Weight)})
		}
	}
	for _, f := range []struct {
		to   *[]engine.BlockLimit
		from []*blkiodev.ThrottleDevice
	}{
		{&l.ReadBytes, r.BlkioDeviceReadBps}, {&l.WriteBytes, r.BlkioDeviceWriteBps},
		{&l.ReadOps, r.BlkioDeviceReadIOps}, {&l.WriteOps, r.BlkioDeviceWriteIOps},
	} {
		if len(f.from) == 0 {
			continue
		}
		*f.to = nil
		for _, d := range f.from {
			*f.to = append(*f.to, engine.BlockLimit{Path: d.Path, Rate: d.Rate})
		}
	}
	return nil
}

// logLimits says what is kept of the output. Drivers that only choose another form for the same
// lines are taken as they are; those that would send them elsewhere are not there.
func logLimits(_ context.Context, q *request, out *engine.Spec) error {
	l := &q.HostConfig.LogConfig
	switch l.Type {
	case "":
		l.Type = "json-file"
	case "json-file", "local":
	case "none":
		out.Logs.None = true
		return nil
	default:
		return fault.Invalid("logger: no log driver named '%s' is registered", l.Type)
	}
	for key, value := range l.Config {
		if err := logOption(out, l.Type, key, value); err != nil {
			return err
		}
	}
	return nil
}

func logOption(out *engine.Spec, driver, key, value string) (err error) {
	switch key {
	case "max-size":
		out.Logs.Size, err = units.RAMInBytes(value)
		if err != nil || out.Logs.Size <= 0 {
			return fault.Invalid("invalid value for max-size: %s", value)
		}
	case "max-file":
		out.Logs.Files, err = strconv.Atoi(value)
		if err != nil || out.Logs.Files < 1 {
			return fault.Invalid("max-file must be a positive number")
		}
	case "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size":
	default:
		return fault.Invalid("unknown log opt '%s' for %s log driver", key, driver)
	}
	return nil
}
