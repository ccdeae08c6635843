package container

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	networks "sampan.dev/sampan/engine/docker/internal/network"
)

func (s *Service) inspect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.find(r)
	if err != nil {
		return err
	}
	q, err := requestOf(c)
	if err != nil {
		return err
	}
	if !api.AtLeast(r, "1.48") {
		q.Manifest = nil
	}
	out := s.describe(r.Context(), c, q)
	if api.Bool(r, "size") {
		rw, root, err := s.engine.Size(r.Context(), c.ID)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &rw, &root
	}
	if api.AtLeast(r, "1.52") {
		return api.JSON(w, http.StatusOK, out)
	}
	return api.JSON(w, http.StatusOK, older(r, c, out))
}

// requestOf is what a container's client asked for, or, of one that another part of this program
// made, what it would have asked for.
func requestOf(c engine.Container) (request, error) {
	var q request
	if len(c.Spec.Request) > 0 {
		if err := json.Unmarshal(c.Spec.Request, &q); err != nil {
			return q, err
		}
	}
	if q.Config == nil {
		q.Config = &container.Config{
			Image: c.Spec.Image, Cmd: c.Args, Env: c.Env, Labels: c.Spec.Labels, User: c.User, WorkingDir: c.WorkDir,
			Tty: c.Spec.TTY, OpenStdin: c.Spec.Stdin, StopSignal: c.StopSignal,
		}
	}
	if q.HostConfig == nil {
		q.HostConfig = &container.HostConfig{
			NetworkMode: container.NetworkMode(c.Spec.Network), AutoRemove: c.Spec.AutoRemove, Privileged: c.Spec.Privileged,
			ReadonlyRootfs: c.Spec.ReadOnly, LogConfig: container.LogConfig{Type: "json-file"},
		}
	}
	if q.HostConfig.NetworkMode == "" {
		q.HostConfig.NetworkMode = network.NetworkBridge
	}
	q.current(c)
	return q, nil
}

// current says what the engine knows better: what may have changed since.
func (q *request) current(c engine.Container) {
	if q.Config.Hostname == "" {
		q.Config.Hostname = c.Spec.Hostname
	}
	if q.Config.Labels == nil {
		q.Config.Labels = map[string]string{}
	}
	h, l := q.HostConfig, c.Spec.Limits
	h.RestartPolicy = container.RestartPolicy{
		Name: container.RestartPolicyMode(c.Spec.Restart.Policy), MaximumRetryCount: c.Spec.Restart.Max,
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	h.Memory, h.MemoryReservation = l.Memory, l.Reservation
	switch {
	case l.Swap < 0:
		h.MemorySwap = -1
	case l.Memory > 0:
		h.MemorySwap = l.Memory + l.Swap
	default:
		h.MemorySwap = 0
	}
	h.NanoCPUs = int64(l.CPUs*1e9 + 0.5)
	h.CPUPeriod, h.CPUQuota, h.CPUShares = int64(l.CPUPeriod), l.CPUQuota, int64(l.CPUShares)
	h.CpusetCpus, h.CpusetMems, h.BlkioWeight = l.CPUSet, l.MemSet, l.BlockWeight
	h.PidsLimit = nil
	if l.Pids > 0 {
		h.PidsLimit = &l.Pids
	}
}

// describe is all that the newest version tells, but the sizes.
func (s *Service) describe(ctx context.Context, c engine.Container, q request) *container.InspectResponse {
	if q.HostConfig.MaskedPaths == nil && !c.Spec.Privileged && !c.Spec.Unmasked {
		q.HostConfig.MaskedPaths, q.HostConfig.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	out := &container.InspectResponse{
		ID: c.ID, Created: stamp(c.Created), Image: c.Image, Name: "/" + c.Name, RestartCount: c.Restarts,
		LogPath: c.Log, Driver: s.engine.Snapshotter(), Platform: "linux", ExecIDs: c.Execs,
		ResolvConfPath: filepath.Join(c.Dir, "resolv.conf"), HostnamePath: filepath.Join(c.Dir, "hostname"), HostsPath: filepath.Join(c.Dir, "hosts"),
		AppArmorProfile: c.Spec.AppArmor, State: state(c), Config: q.Config, HostConfig: q.HostConfig,
		Mounts: s.mountPoints(ctx, c, q), ImageManifestDescriptor: q.Manifest, Storage: &storage.Storage{RootFS: &storage.RootFSStorage{
			Snapshot: &storage.RootFSStorageSnapshot{Name: s.engine.Snapshotter()},
		}},
		NetworkSettings: &container.NetworkSettings{Ports: portMap(c, q), Networks: s.endpoints(ctx, c, q)},
	}
	if len(c.Args) > 0 {
		out.Path, out.Args = c.Args[0], full(c.Args[1:])
	}
	if c.Place.NetNS != "" && running(c) {
		out.NetworkSettings.SandboxID, out.NetworkSettings.SandboxKey = c.ID, c.Place.NetNS
	}
	return out
}

// stamp is a time as Docker writes it; the zero time is its "never".
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func state(c engine.Container) *container.State {
	st := &container.State{
		Status: container.ContainerState(c.State), Running: running(c), Paused: c.State == engine.Paused,
		Restarting: c.State == engine.Restarting, OOMKilled: c.Exit.OOM, Pid: c.Pid, ExitCode: exitCode(c), Error: c.Error,
		StartedAt: stamp(c.Started), FinishedAt: stamp(c.Finished),
	}
	if c.Healthy == "" {
		return st
	}
	st.Health = &container.Health{Status: container.HealthStatus(c.Healthy), FailingStreak: c.Checks.Failures, Log: []*container.HealthcheckResult{}}
	for _, check := range c.Checks.Checks {
		st.Health.Log = append(st.Health.Log, &container.HealthcheckResult{
			Start: check.Start, End: check.End, ExitCode: check.Code, Output: check.Output,
		})
	}
	return st
}

// exitCode is of the last run that is over; of one that goes on there is none yet.
func exitCode(c engine.Container) int {
	if c.State == engine.Running || c.State == engine.Paused {
		return 0
	}
	return c.Exit.Code
}

// mountPoints are what is mounted, in the order of their places.
func (s *Service) mountPoints(ctx context.Context, c engine.Container, q request) []container.MountPoint {
	modes := map[string]string{}
	for _, text := range q.HostConfig.Binds {
		if b, err := parseBind(text, ""); err == nil {
			if b.mode == "" && b.Type == engine.Volume {
				b.mode = "z"
			}
			modes[b.Target] = b.mode
		}
	}
	list := []container.MountPoint{}
	for _, m := range c.Spec.Mounts {
		if m.Type != engine.Volume {
			list = append(list, pointOf(m, modes[m.Target]))
		}
	}
	for _, m := range c.Volumes {
		p := pointOf(m, modes[m.Target])
		p.Name, p.Source, p.Driver = m.Source, "", "local"
		if v, err := s.engine.Volume(ctx, m.Source); err == nil {
			p.Source = v.Path
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b container.MountPoint) int {
		if a.Destination < b.Destination {
			return -1
		}
		return 1
	})
	return list
}

func pointOf(m engine.Mount, mode string) container.MountPoint {
	p := container.MountPoint{Type: mount.Type(m.Type), Source: m.Source, Destination: m.Target, Mode: mode, RW: !m.ReadOnly}
	if m.Type == engine.Bind {
		p.Propagation = mount.Propagation(m.Propagation)
		if p.Propagation == "" {
			p.Propagation = mount.PropagationRPrivate
		}
	}
	return p
}

// endpoints are a container's networks by their names.
func (s *Service) endpoints(ctx context.Context, c engine.Container, q request) map[string]*network.EndpointSettings {
	all := map[string]*network.EndpointSettings{}
	mode := q.HostConfig.NetworkMode
	switch {
	case mode.IsContainer():
		return all
	case mode.IsHost() || mode.IsNone():
		all[string(mode)] = &network.EndpointSettings{NetworkID: s.networkID(ctx, string(mode))}
		return all
	}
	for _, a := range c.Spec.Networks {
		e := q.Endpoints[a.Network].Copy()
		if e == nil {
			e = &network.EndpointSettings{}
		}
		e.Aliases, e.GwPriority = a.Aliases, a.Priority
		if a.IPv4.IsValid() || a.IPv6.IsValid() {
			e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: a.IPv4, IPv6Address: a.IPv6}
		}
		if i := slices.IndexFunc(c.Place.Endpoints, func(p engine.Endpoint) bool { return p.Network == a.Network }); i >= 0 && running(c) {
			fill(e, c.Place.Endpoints[i])
		} else {
			e.NetworkID = s.networkID(ctx, a.Network)
		}
		all[a.Network] = e
	}
	return all
}

func (s *Service) networkID(ctx context.Context, name string) string {
	if name == engine.HostNetwork || name == engine.NoNetwork {
		return networks.FixedID(name)
	}
	n, err := s.engine.Network(ctx, name)
	if err != nil {
		return "" // it was removed since
	}
	return n.ID
}

// fill tells where the container is.
func fill(e *network.EndpointSettings, p engine.Endpoint) {
	e.NetworkID, e.EndpointID, e.DNSNames = p.NetworkID, p.ID, p.Names
	e.Gateway, e.IPv6Gateway = p.Gateway4, p.Gateway6
	_ = e.MacAddress.UnmarshalText([]byte(p.MAC)) // the engine's own
	if p.IPv4.IsValid() {
		e.IPAddress, e.IPPrefixLen = p.IPv4.Addr(), p.IPv4.Bits()
	}
	if p.IPv6.IsValid() {
		e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = p.IPv6.Addr(), p.IPv6.Bits()
	}
}

// addr is an address in text; what is none is the zero one.
func addr(text string) netip.Addr {
	ip, _ := netip.ParseAddr(text)
	return ip
}

func hostPort(p engine.Port) string {
	if p.Host == 0 {
		return ""
	}
	return strconv.Itoa(int(p.Host))
}

// The answers of versions before 1.52 have fields that are the default network's, and name the
// storage in another place.
type (
	olderInspect struct {
		*container.InspectResponse
		Config          any
		NetworkSettings olderSettings
		Storage         *struct{} `json:",omitempty"`
	}
	olderConfig struct {
		*container.Config
		MacAddress string `json:",omitempty"`
	}
	olderSettings struct {
		*container.NetworkSettings
		Bridge                 string
		HairpinMode            bool
		LinkLocalIPv6Address   string
		LinkLocalIPv6PrefixLen int
		SecondaryIPAddresses   []string
		SecondaryIPv6Addresses []string
		EndpointID             string
		Gateway                netip.Addr
		GlobalIPv6Address      netip.Addr
		GlobalIPv6PrefixLen    int
		IPAddress              netip.Addr
		IPPrefixLen            int
		IPv6Gateway            netip.Addr
		MacAddress             network.HardwareAddr
	}
)

func older(r *http.Request, c engine.Container, in *container.InspectResponse) olderInspect {
	out := olderInspect{InspectResponse: in, Config: in.Config, NetworkSettings: olderSettings{NetworkSettings: in.NetworkSettings}}
	in.GraphDriver = &storage.DriverData{Name: in.Driver}
	if e, ok := in.NetworkSettings.Networks[network.NetworkBridge]; ok {
		s := &out.NetworkSettings
		s.EndpointID, s.Gateway, s.IPv6Gateway, s.MacAddress = e.EndpointID, e.Gateway, e.IPv6Gateway, e.MacAddress
		s.IPAddress, s.IPPrefixLen = e.IPAddress, e.IPPrefixLen
		s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = e.GlobalIPv6Address, e.GlobalIPv6PrefixLen
	}
	if !api.AtLeast(r, "1.45") {
		for name, e := range in.NetworkSettings.Networks {
			if container.NetworkMode(name).IsUserDefined() {
				e.Aliases = append(slices.Clone(e.Aliases), c.ID[:12])
			}
		}
	}
	if i := slices.IndexFunc(c.Spec.Networks, func(a engine.Attachment) bool { return a.MAC != "" }); i >= 0 {
		out.Config = olderConfig{Config: in.Config, MacAddress: c.Spec.Networks[i].MAC}
	}
	return out
}
