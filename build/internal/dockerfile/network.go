package dockerfile

import (
	"context"
	"fmt"
	"sync"

	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/engine"
)

// resolver is where the engine answers names, in each network namespace of its own.
const resolver = "127.0.0.11"

// pids is how many processes a step may have.
const pids = 4096

// networks gives each step a network namespace of the engine. The host's network is never
// given: servers on its loopback trust their callers.
type networks struct {
	engine *engine.Engine

	mu    sync.Mutex
	ready bool
}

func (n *networks) providers() map[pb.NetMode]network.Provider {
	return map[pb.NetMode]network.Provider{
		pb.NetMode_UNSET: n,
		pb.NetMode_NONE:  network.NewNoneProvider(),
	}
}

func (*networks) Close() error { return nil }

// prepare makes the network when it is first needed.
func (n *networks) prepare(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready {
		return nil
	}
	if err := sandbox.MakeNetwork(ctx, n.engine); err != nil {
		return err
	}
	n.ready = true
	return nil
}

// New opens a namespace.
func (n *networks) New(ctx context.Context, _ string, _ network.NamespaceOptions) (network.Namespace, error) {
	if err := n.prepare(ctx); err != nil {
		return nil, err
	}
	path, end, err := n.engine.Sandbox(ctx, sandbox.Network)
	if err != nil {
		return nil, fmt.Errorf("make a network for a build step: %w", err)
	}
	return &namespace{path: path, end: sync.OnceValue(end)}, nil
}

type namespace struct {
	path string
	end  func() error
}

// Set joins a step to the network, and adds the limit that BuildKit has no setting for.
func (n *namespace) Set(s *specs.Spec) error {
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	limit := int64(pids)
	s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			s.Linux.Namespaces[i].Path = n.path
			return nil
		}
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: n.path})
	return nil
}

// Close ends the namespace.
func (n *namespace) Close() error { return n.end() }

func (*namespace) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
