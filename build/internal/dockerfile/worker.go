package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/containerd"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

const frontendName = "dockerfile.v0"

// Disk that layers of old builds may use before the oldest are deleted.
const (
	mostCache = 10 << 30
	leastFree = 2 << 30
)

// executorDir is below the worker's; each running step has a directory there.
const executorDir = "executor"

// cgroup is the parent of the control groups of build steps.
const cgroup = "/sampan-build"

// A sharedWorker is the part of BuildKit that all scopes use: stores and executor.
type sharedWorker struct {
	worker.Worker
	networks *networks
}

// openWorker opens BuildKit on the engine's stores.
func openWorker(ctx context.Context, e *engine.Engine, dir string) (*sharedWorker, error) {
	if _, err := exec.LookPath("runc"); err != nil {
		return nil, fault.Unavailable("runc is not installed, and the steps of Dockerfiles run through it").
			Try("install Debian's package runc on the server")
	}
	opt, err := containerd.NewWorkerOpt(containerd.WorkerOptions{
		Root: dir, SnapshotterName: e.Snapshotter(), Namespace: engine.Namespace,
		NetworkOpt: netproviders.Opt{Mode: "host"}, // replaced below
	}, e.ContainerdOpts()...)
	if err != nil {
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	nets := &networks{engine: e}
	opt.NetworkProviders = nets.providers()
	opt.ProxyProvider = nil
	monitor, err := resources.NewMonitor()
	if err != nil {
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	opt.ResourceMonitor = monitor
	opt.Executor, err = runcexecutor.New(runcexecutor.Opt{
		Root: filepath.Join(dir, executorDir), CommandCandidates: []string{"runc"}, DefaultCgroupParent: cgroup,
		DNS: &oci.DNSConfig{Nameservers: []string{resolver}}, ResourceMonitor: monitor,
	}, opt.NetworkProviders)
	if err != nil {
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	opt.RegistryHosts = docker.ConfigureDefaultRegistries()
	opt.GCPolicy = []client.PruneInfo{{All: true, MaxUsedSpace: mostCache, MinFreeSpace: leastFree}}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	return &sharedWorker{w, nets}, nil
}

// Close does nothing: each scope's controller closes its worker, and this one is shared.
func (*sharedWorker) Close() error { return nil }

func (w *sharedWorker) close() error { return w.Worker.Close() }

// A connection is a BuildKit of one scope, for one build.
type connection struct {
	client     *client.Client
	server     *grpc.Server
	served     chan error
	controller *control.Controller
}

// connect opens the scope's cache index, which knows which layers may be taken again, and a
// solver for it.
func (w *sharedWorker) connect(ctx context.Context, dir string) (c *connection, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the build cache: %w", err)
	}
	c = &connection{served: make(chan error, 1)}
	if c.controller, _, err = controllerOf(ctx, w, dir, nil); err != nil {
		return nil, fmt.Errorf("open the build cache: %w", err)
	}
	const buffer = 1 << 20
	l := bufconn.Listen(buffer)
	c.serve(l)
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
	if c.client, err = client.New(ctx, "tcp://buildkit", client.WithContextDialer(dial)); err != nil {
		c.close()
		return nil, fmt.Errorf("reach BuildKit: %w", err)
	}
	return c, nil
}

// serve answers on l.
func (c *connection) serve(l net.Listener) {
	c.server = grpc.NewServer(grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor))
	c.controller.Register(c.server)
	go func() { c.served <- c.server.Serve(l) }()
}

// controllerOf makes a solver on a worker, with what it knows in dir. Frontends are those beside
// the one that is built in.
func controllerOf(ctx context.Context, w worker.Worker, dir string, frontends func(worker.Infos) (map[string]frontend.Frontend, error)) (*control.Controller, *session.Manager, error) {
	sessions, err := session.NewManager()
	if err != nil {
		return nil, nil, err
	}
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, nil, err
	}
	all := map[string]frontend.Frontend{}
	if frontends != nil {
		if all, err = frontends(workers.Infos()); err != nil {
			return nil, nil, err
		}
	}
	all[frontendName] = forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)
	index, err := bboltcachestorage.NewStore(filepath.Join(dir, "cache.db"))
	if err != nil {
		return nil, nil, err
	}
	// A history of builds is asked for; those of Sampan are kept by who asks for builds.
	history, err := bolt.Open(filepath.Join(dir, "history.db"), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		return nil, nil, errors.Join(err, index.Close())
	}
	c, err := control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends:        all,
		CacheManager:     solver.NewCacheManager(context.WithoutCancel(ctx), filepath.Base(dir), index, worker.NewCacheResultStorage(workers)),
		HistoryDB:        history,
		CacheStore:       index,
		LeaseManager:     w.LeaseManager(),
		ContentStore:     w.ContentStore(),
		GarbageCollect:   w.GarbageCollect,
	})
	return c, sessions, err
}

func (c *connection) close() {
	if c.client != nil {
		_ = c.client.Close() // in this process there is nothing to lose
	}
	c.server.Stop()
	<-c.served
	_ = c.controller.Close()
}
