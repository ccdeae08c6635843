package system

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	types "github.com/moby/moby/api/types/system"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/legacy"
)

// index is what Docker's clients call the registry of names that say none.
const index = "https://index.docker.io/v1/"

func (s *Service) info(w http.ResponseWriter, r *http.Request) error {
	out, err := s.describe(r.Context())
	if err != nil {
		return err
	}
	if !api.AtLeast(r, "1.49") {
		out.FirewallBackend = nil
	}
	more := map[string]any{}
	if !api.AtLeast(r, "1.47") {
		more["RegistryConfig"] = map[string]any{
			"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil,
		}
	}
	if !api.AtLeast(r, "1.49") {
		for name, commit := range map[string]types.Commit{
			"ContainerdCommit": out.ContainerdCommit, "RuncCommit": out.RuncCommit, "InitCommit": out.InitCommit,
		} {
			more[name] = map[string]any{"Expected": commit.ID}
		}
	}
	if !api.AtLeast(r, "1.50") {
		more["BridgeNfIptables"], more["BridgeNfIp6tables"] = false, false
	}
	if len(more) == 0 {
		return api.JSON(w, http.StatusOK, out)
	}
	all, err := legacy.With(out, more)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, all)
}

func (s *Service) describe(ctx context.Context) (types.Info, error) {
	out := s.machine()
	if err := s.count(ctx, &out); err != nil {
		return out, err
	}
	server, err := s.engine.Containerd().IntrospectionService().Server(ctx)
	if err != nil {
		return out, fmt.Errorf("ask the image store for its name: %w", err)
	}
	out.ID = identity(server.UUID)
	out.Driver, out.DriverStatus = s.engine.Snapshotter(), [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	out.DockerRootDir = s.engine.Dir()
	out.Plugins = types.PluginsInfo{
		Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: []string{"json-file", "local"},
	}
	out.LoggingDriver, out.CgroupDriver, out.IndexServerAddress = "json-file", "cgroupfs", index
	out.RegistryConfig = registries()
	out.ServerVersion, out.DefaultRuntime = s.version, "runc"
	out.Runtimes = map[string]types.RuntimeWithStatus{"runc": {Runtime: types.Runtime{Path: "runc"}}}
	out.Swarm = swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}
	out.LiveRestoreEnabled, out.InitBinary = true, "sampan-init"
	out.ContainerdCommit = types.Commit{ID: moduleVersion("github.com/containerd/containerd/v2")}
	out.RuncCommit = types.Commit{ID: moduleVersion("github.com/opencontainers/runc")}
	out.InitCommit = types.Commit{ID: s.version}
	out.FirewallBackend = &types.FirewallInfo{Driver: "nftables"}
	out.Labels, out.CDISpecDirs = []string{}, []string{}
	return out, nil
}

// identity is that of an engine, which its store has among those of the machine.
func identity(store string) string {
	machine, _ := os.ReadFile("/etc/machine-id") // without it the store's own must do
	sum := sha256.Sum256(append(machine, store...))
	return hex.EncodeToString(sum[:16])
}

// machine is what the kernel and the system say.
func (s *Service) machine() types.Info {
	kernel, arch := uname()
	name, version := system()
	hostname, err := os.Hostname()
	if err != nil {
		hostname = ""
	}
	out := types.Info{
		KernelVersion: kernel, Architecture: arch, OperatingSystem: name, OSVersion: version, OSType: runtime.GOOS, Name: hostname,
		NCPU: runtime.NumCPU(), MemTotal: memory(), IPv4Forwarding: says("/proc/sys/net/ipv4/ip_forward", "1"),
		NFd: openFiles(), NGoroutines: runtime.NumGoroutine(), NEventsListener: int(s.listeners.Load()),
		SystemTime: time.Now().Format(time.RFC3339Nano),
	}
	limits(&out)
	out.SecurityOptions = security(out.CgroupVersion)
	return out
}

func (s *Service) count(ctx context.Context, out *types.Info) error {
	containers, err := s.engine.Containers(ctx, nil)
	if err != nil {
		return err
	}
	for _, c := range containers {
		switch c.State {
		case engine.Running, engine.Restarting:
			out.ContainersRunning++
		case engine.Paused:
			out.ContainersPaused++
		default:
			out.ContainersStopped++
		}
	}
	out.Containers = len(containers)
	images, err := s.engine.Images(ctx)
	out.Images = len(images)
	return err
}

func registries() *registry.ServiceConfig {
	return &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true},
		},
		Mirrors: []string{},
	}
}
