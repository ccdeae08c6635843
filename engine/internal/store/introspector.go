package store

import (
	"context"
	"fmt"

	api "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
)

// An introspector answers the two questions that BuildKit asks a containerd: who are you,
// and for which platform do you run containers.
type introspector struct{ dir string }

func (i introspector) Server(context.Context) (*api.ServerResponse, error) {
	return &api.ServerResponse{UUID: digest.FromString(i.dir).Encoded()[:32]}, nil
}

func (i introspector) Plugins(context.Context, ...string) (*api.PluginsResponse, error) {
	p := platforms.DefaultSpec()
	return &api.PluginsResponse{Plugins: []*api.Plugin{{
		Type:      "io.containerd.runtime.v2",
		ID:        "task",
		Platforms: []*types.Platform{{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}},
	}}}, nil
}

func (i introspector) PluginInfo(_ context.Context, kind, id string, _ any) (*api.PluginInfoResponse, error) {
	return nil, fmt.Errorf("plugin %s.%s: %w", kind, id, errdefs.ErrNotFound)
}
