// Package system is what Docker's API knows of the engine as a whole: its version, the
// machine, events, the use of the disk. It also answers for what this engine has not: swarms
// and plugins.
package system

import (
	"context"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	types "github.com/moby/moby/api/types/system"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// Config of a Service.
type Config struct {
	Engine  *engine.Engine
	Version string // of this program

	// Builds lists BuildKit's cache; nil: images are not built here.
	Builds func(ctx context.Context) ([]build.CacheRecord, error)

	// Containers lists all, with their sizes. The package of containers knows how.
	Containers func(ctx context.Context) ([]container.Summary, error)
}

// A Service answers requests about the engine. It is safe for concurrent use.
type Service struct {
	engine  *engine.Engine
	version string
	builds  func(ctx context.Context) ([]build.CacheRecord, error)
	list    func(ctx context.Context) ([]container.Summary, error)

	listeners atomic.Int64 // requests for events that are being answered
}

// New answers from an engine.
func New(cfg Config) *Service {
	version := cfg.Version
	if version == "" {
		version = "dev"
	}
	return &Service{engine: cfg.Engine, version: version, builds: cfg.Builds, list: cfg.Containers}
}

// Routes adds all of them.
func (s *Service) Routes(rt *api.Router) {
	for pattern, h := range map[string]api.Handler{
		"GET /_ping":              s.ping,
		"GET /version":            s.tellVersion,
		"GET /info":               s.info,
		"GET /events":             s.events,
		"GET /system/df":          s.usage,
		"POST /swarm/leave":       notInSwarm,
		"POST /swarm/init":        noSwarm,
		"POST /swarm/join":        noSwarm,
		"GET /plugins":            noPlugins,
		"GET /plugins/privileges": cannotPlug,
		"GET /plugins/{name...}":  noPlugin,
		"POST /plugins/{name...}": cannotPlug,
	} {
		rt.Handle(pattern, h)
	}
	for _, kind := range []string{"swarm", "nodes", "services", "tasks", "secrets", "configs"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			rt.Handle(method+" /"+kind, notManager)
			rt.Handle(method+" /"+kind+"/{rest...}", notManager)
		}
	}
}

// ping is how clients look whether somebody is there, and which version they may speak.
func (s *Service) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if s.builds != nil {
		h.Set("Builder-Version", "2")
	}
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

func (s *Service) tellVersion(w http.ResponseWriter, r *http.Request) error {
	kernel, _ := uname()
	out := types.VersionResponse{
		Platform: types.PlatformInfo{Name: "Sampan"}, Version: s.version, APIVersion: api.MaxVersion, MinAPIVersion: api.MinVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GoVersion: runtime.Version(), KernelVersion: kernel,
	}
	out.Components = []types.ComponentVersion{{Name: "Engine", Version: s.version, Details: map[string]string{
		"ApiVersion": out.APIVersion, "MinAPIVersion": out.MinAPIVersion, "Os": out.Os, "Arch": out.Arch,
		"GoVersion": out.GoVersion, "KernelVersion": kernel, "Experimental": "false", "GitCommit": "", "BuildTime": "",
	}}}
	for _, part := range [][2]string{{"containerd", "github.com/containerd/containerd/v2"}, {"runc", "github.com/opencontainers/runc"}} {
		out.Components = append(out.Components, types.ComponentVersion{
			Name: part[0], Version: moduleVersion(part[1]), Details: map[string]string{"GitCommit": ""},
		})
	}
	return api.JSON(w, http.StatusOK, out)
}

// moduleVersion is that of a part which is linked into this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

func notManager(http.ResponseWriter, *http.Request) error {
	return fault.Unavailable("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
}

func notInSwarm(http.ResponseWriter, *http.Request) error {
	return fault.Unavailable("This node is not part of a swarm")
}

func noSwarm(http.ResponseWriter, *http.Request) error {
	return api.NotImplemented("swarms are not supported by this engine")
}

func noPlugins(w http.ResponseWriter, r *http.Request) error {
	return api.JSON(w, http.StatusOK, []struct{}{})
}

func noPlugin(w http.ResponseWriter, r *http.Request) error {
	return fault.NotFound("plugin %q not found", strings.TrimSuffix(r.PathValue("name"), "/json"))
}

func cannotPlug(http.ResponseWriter, *http.Request) error {
	return api.NotImplemented("plugins are not supported by this engine")
}
