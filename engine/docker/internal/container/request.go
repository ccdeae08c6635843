package container

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// A request is what a client asked for. It is kept with the container.
type request struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Endpoints  map[string]*network.EndpointSettings `json:",omitempty"` // by the network's name
	Manifest   *ocispec.Descriptor                  `json:",omitempty"` // of the image, for its platform

}

// A legacy has fields that the newest version of the API has no more.
type legacy struct {
	MacAddress network.HardwareAddr
	HostConfig struct{ Capabilities []string }
}

// parseRequest reads what a client of that version asks for.
func parseRequest(r *http.Request) (q request, warnings []string, err error) {
	body, err := api.Body(r)
	if err != nil {
		return q, nil, err
	}
	var in container.CreateRequest
	if len(body) == 0 {
		return q, nil, fault.Invalid("invalid JSON: got EOF while reading request body")
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return q, nil, fault.Invalid("invalid JSON: %w", err)
	}
	if in.Config == nil {
		return q, nil, fault.Invalid("config cannot be empty in order to create a container")
	}
	q = request{Config: in.Config, HostConfig: in.HostConfig, Endpoints: map[string]*network.EndpointSettings{}}
	if q.HostConfig == nil {
		q.HostConfig = &container.HostConfig{}
	}
	if in.NetworkingConfig != nil {
		for name, e := range in.NetworkingConfig.EndpointsConfig {
			if e == nil {
				e = &network.EndpointSettings{}
			}
			q.Endpoints[name] = e
		}
	}
	var old legacy
	_ = json.Unmarshal(body, &old) // what is no valid field of old is none
	warnings, err = q.adapt(r, old)
	return q, warnings, err
}

// defaults are those that do not depend on the image.
func (q *request) defaults() {
	h := q.HostConfig
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
		if e, ok := q.Endpoints[network.NetworkDefault]; ok {
			delete(q.Endpoints, network.NetworkDefault)
			q.Endpoints[network.NetworkBridge] = e
		}
	}
	if q.Config.NetworkDisabled {
		h.NetworkMode = network.NetworkNone
	}
	if h.PortBindings == nil {
		h.PortBindings = network.PortMap{}
	}
	for port, bindings := range h.PortBindings {
		if len(bindings) == 0 {
			h.PortBindings[port] = []network.PortBinding{{}}
		}
	}
	if h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory
	}
	if h.ShmSize == 0 {
		h.ShmSize = defaultShm
	}
	if h.MemorySwappiness != nil && *h.MemorySwappiness == -1 {
		h.MemorySwappiness = nil
	}
	h.Runtime = cmp.Or(h.Runtime, "runc")
	h.IpcMode = cmp.Or(h.IpcMode, container.IPCModePrivate)
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = container.CgroupnsModePrivate
		if h.Privileged {
			h.CgroupnsMode = container.CgroupnsModeHost
		}
	}
	if len(q.Config.Volumes) == 0 {
		q.Config.Volumes = nil
	}
}

// defaultShm is the size of /dev/shm.
const defaultShm = 64 << 20

// adapt reads a request as the client's version means it.
func (q *request) adapt(r *http.Request, old legacy) ([]string, error) {
	h := q.HostConfig
	since := func(version string) bool { return api.AtLeast(r, version) }
	if !since("1.40") && h.IpcMode == "" {
		h.IpcMode = container.IPCModeShareable
	}
	q.defaults()
	if !since("1.41") && len(old.HostConfig.Capabilities) > 0 {
		return nil, fault.Invalid("the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities")
	}
	if !since("1.42") {
		h.ConsoleSize = [2]uint{}
	}
	if !since("1.43") {
		h.Annotations = nil
	}
	if !since("1.44") {
		if q.Config.Healthcheck != nil {
			q.Config.Healthcheck.StartInterval = 0
		}
		if len(q.Endpoints) > 1 {
			return nil, fault.Invalid("Container cannot be created with multiple network endpoints: %s",
				strings.Join(slices.Sorted(maps.Keys(q.Endpoints)), ", "))
		}
	}
	if !since("1.48") {
		for _, e := range q.Endpoints {
			e.GwPriority = 0
		}
	}
	if err := adaptMounts(h.Mounts, since); err != nil {
		return nil, err
	}
	return q.adaptMAC(old.MacAddress, since)
}

// adaptMounts forgets what the client's version did not have.
func adaptMounts(mounts []mount.Mount, since func(string) bool) error {
	for i := range mounts {
		m := &mounts[i]
		if b := m.BindOptions; b != nil {
			b.NonRecursive = b.NonRecursive && since("1.40")
			b.CreateMountpoint = b.CreateMountpoint && since("1.42")
			if b.ReadOnlyForceRecursive && !since("1.44") {
				return fault.Invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
			}
		}
		if !since("1.42") {
			if m.Type != mount.TypeVolume {
				m.VolumeOptions = nil
			}
			if m.Type != mount.TypeTmpfs {
				m.TmpfsOptions = nil
			}
		}
		if v := m.VolumeOptions; v != nil && v.Subpath != "" && !since("1.45") {
			return fault.Invalid("VolumeOptions.Subpath needs API v1.45 or newer")
		}
		if m.Type == mount.TypeImage && !since("1.48") {
			return fault.Invalid(`Mount type "Image" needs API v1.48 or newer`)
		}
	}
	return nil
}

// adaptMAC moves the address that was the container's once to its network.
func (q *request) adaptMAC(mac network.HardwareAddr, since func(string) bool) ([]string, error) {
	if len(mac) == 0 {
		if !since("1.44") {
			for _, e := range q.Endpoints {
				e.MacAddress = nil
			}
		}
		return nil, nil
	}
	if since("1.52") {
		return nil, fault.Invalid("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	mode := q.HostConfig.NetworkMode
	if !mode.IsBridge() && !mode.IsUserDefined() {
		return nil, fault.Invalid("conflicting options: mac-address and the network mode")
	}
	e := q.endpoint(string(mode))
	if len(e.MacAddress) > 0 && e.MacAddress.String() != mac.String() && since("1.44") {
		return nil, fault.Invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = mac
	if !since("1.44") {
		return nil, nil
	}
	return []string{"The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."}, nil
}

// endpoint is that of a network, made when it is missing.
func (q *request) endpoint(name string) *network.EndpointSettings {
	e, ok := q.Endpoints[name]
	if !ok {
		e = &network.EndpointSettings{}
		q.Endpoints[name] = e
	}
	return e
}

// merge adds what the image says where the client said nothing.
func (q *request) merge(i engine.ImageConfig) {
	c := q.Config
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = i.Command
		}
		if c.Entrypoint == nil {
			c.Entrypoint = i.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil // it means: none, the image's neither
	}
	if c.User == "" {
		c.User = i.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = i.WorkDir
	}
	if c.StopSignal == "" {
		c.StopSignal = i.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = i.Shell
	}
	c.OnBuild = nil
	c.Env = mergeEnv(i.Env, c.Env)
	q.mergeSets(i)
	c.Healthcheck = mergeHealth(c.Healthcheck, i.Health)
}

// mergeSets joins labels, ports and volumes.
func (q *request) mergeSets(i engine.ImageConfig) {
	c := q.Config
	labels := maps.Clone(i.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	for _, text := range i.Ports {
		port, err := network.ParsePort(text)
		if err != nil {
			continue // the image's mistake must not keep it from running
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = network.PortSet{}
		}
		c.ExposedPorts[port] = struct{}{}
	}
	for _, path := range i.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[path] = struct{}{}
	}
}

// mergeEnv puts the client's variables over the image's. One without "=" takes the image's away.
func mergeEnv(image, own []string) []string {
	name := func(v string) string { n, _, _ := strings.Cut(v, "="); return n }
	all := []string{}
	for _, v := range image {
		if !slices.ContainsFunc(own, func(o string) bool { return name(o) == name(v) }) {
			all = append(all, v)
		}
	}
	return append(slices.DeleteFunc(slices.Clone(own), func(v string) bool { return !strings.Contains(v, "=") }), all...)
}

func mergeHealth(own *container.HealthConfig, i *engine.Health) *container.HealthConfig {
	if i == nil {
		return own
	}
	image := &container.HealthConfig{
		Test: i.Command, Interval: i.Interval, Timeout: i.Timeout, StartPeriod: i.StartPeriod, StartInterval: i.StartInterval, Retries: i.Retries,
	}
	if own == nil {
		return image
	}
	merged := *own
	if len(merged.Test) == 0 {
		merged.Test = image.Test
	}
	for _, f := range [][2]*time.Duration{
		{&merged.Interval, &image.Interval}, {&merged.Timeout, &image.Timeout},
		{&merged.StartPeriod, &image.StartPeriod}, {&merged.StartInterval, &image.StartInterval},
	} {
		if *f[0] == 0 {
			*f[0] = *f[1]
		}
	}
	if merged.Retries == 0 {
		merged.Retries = image.Retries
	}
	return &merged
}
