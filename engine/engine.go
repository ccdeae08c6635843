// Package engine runs containers on one Linux machine: images, containers, networks, volumes.
//
// Bytes and metadata are kept by containerd's stores, in process; processes are run by
// sampan-init, a small supervisor that outlives this one, so that an Engine which is closed,
// killed or replaced finds its containers running and their logs whole. An image is a set of
// layers (OCI image specification 1.1), a container is a process tree on a writable directory
// over one (OCI runtime specification 1.3), a network is a bridge.
//
// Images, volumes and networks survive power loss once a call returned them. So do
// containers that are to be restarted; others are made for one run, and their records are
// left to the kernel to write. Every method is safe for concurrent use. Containers are named
// by their ID, an unambiguous beginning of it, or their name.
package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/engine/internal/initbin"
	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/volume"
	"sampan.dev/sampan/internal/fault"
)

// Config says where an Engine lives and what it may use. Only Dir is needed.
type Config struct {
	Dir    string       // everything is below it
	Init   string       // the sampan-init to start; empty: the one that this program carries
	Subnet netip.Prefix // of the default network; zero: the first private one that is free
	DNS    []string     // servers to forward to; empty: the host's
	Log    *slog.Logger // nil: nothing is logged
}

// Namespace is the one of containerd's namespaces that everything lies in.
const Namespace = "sampan"

// An Engine is open from Open to Close; its containers run on after that.
type Engine struct {
	dir      string
	init     string
	log      *slog.Logger
	store    *store.Store
	images   *image.Store
	networks *network.Manager
	volumes  *volume.Store
	filters  spec.Filters
	hub      *hub
	execs    execs
	work     sync.WaitGroup // what goes on after a call returned

	starting sync.Mutex // one sampan-init at a time is started
	client   *supervisor.Client
	purged   bool          // no further one is started
	started  chan struct{} // receives when there is a client whose events nobody hears yet

	mu         sync.Mutex
	containers map[string]*container
	names      map[string]string // name → ID
}

// Open takes the directory and finds again what runs. The machine's networks are set up to
// serve it; without containers nothing is started and nothing on the machine changes.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if os.Geteuid() != 0 {
		return nil, fault.Unavailable("containers need root").Try("start sampan as root, or let apps run as plain processes")
	}
	dir, err := filepath.Abs(cmp.Or(cfg.Dir, "engine"))
	if err != nil {
		return nil, fmt.Errorf("find the engine's directory: %w", err)
	}
	e := &Engine{
		dir: dir, init: cfg.Init, log: cfg.Log, hub: newHub(), started: make(chan struct{}, 1),
		containers: map[string]*container{}, names: map[string]string{}, execs: execs{all: map[string]*exec{}},
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(dir, "store"), Namespace: Namespace, Log: e.log}); err != nil {
		return nil, err
	}
	if err := e.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Engine) open(ctx context.Context, cfg Config) (err error) {
	e.images = image.New(e.store, filepath.Join(e.dir, "layers"), e.log)
	if err := e.images.Recover(ctx); err != nil {
		return err
	}
	if e.volumes, err = volume.Open(filepath.Join(e.dir, "volumes")); err != nil {
		return err
	}
	e.networks, err = network.Open(network.Config{
		Dir: filepath.Join(e.dir, "network"), Run: e.path("run", "netns"), Subnet: cfg.Subnet, DNS: cfg.DNS, Log: e.log,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.path("containers"), 0o711); err != nil {
		return fmt.Errorf("make the directory of the containers: %w", err)
	}
	return e.adopt(ctx)
}

// Run collects garbage, tells of events and brings back what should run, until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.store.Run(ctx) })
	g.Go(func() error { return e.networks.Run(ctx) })
	g.Go(func() error { return e.listen(ctx) })
	g.Go(func() error { return e.revive(ctx) })
	return g.Wait()
}

// Close releases the directory. Containers run on; without any that runs, nothing of ours is
// left on the machine.
func (e *Engine) Close() error {
	e.work.Wait()
	e.hub.close()
	var errs []error
	if e.images != nil {
		e.images.Close()
	}
	if e.networks != nil {
		errs = append(errs, e.networks.Close())
	}
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.client != nil {
		errs = append(errs, e.rest(), e.client.Close())
		e.client = nil
	}
	return errors.Join(append(errs, e.store.Close())...)
}

func (e *Engine) path(parts ...string) string {
	return filepath.Join(append([]string{e.dir}, parts...)...)
}

// supervisor is the client of sampan-init, which is started when it is needed first.
func (e *Engine) supervisor(ctx context.Context) (*supervisor.Client, error) {
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.client != nil {
		return e.client, nil
	}
	if e.purged {
		return nil, fault.Unavailable("this engine was purged").Try("open it again")
	}
	path, err := initbin.Path(e.path("bin"), e.init)
	if err != nil {
		return nil, err
	}
	c, err := supervisor.Start(ctx, supervisor.Config{Dir: e.path("init"), Init: path, Cgroup: e.cgroup(), Log: e.log})
	if err != nil {
		return nil, fmt.Errorf("start sampan-init: %w", err)
	}
	e.client = c
	select {
	case e.started <- struct{}{}:
	default:
	}
	return c, nil
}

// rest ends sampan-init when nothing runs.
func (e *Engine) rest() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := e.client.Shutdown(ctx)
	switch {
	case err == nil:
		return e.ungroup()
	case fault.Is(err, fault.KindConflict), errors.Is(err, supervisor.ErrUnreachable):
		return nil // a container runs, or Purge ended it
	}
	return err
}

// cgroup is the parent of all control groups of this engine.
func (e *Engine) cgroup() string {
	sum := sha256.Sum256([]byte(e.dir))
	return "/sampan/" + hex.EncodeToString(sum[:6])
}

// lost forgets a client whose sampan-init is gone, so that the next call starts another one.
// It reports whether one is wanted.
func (e *Engine) lost(c *supervisor.Client) bool {
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.client == c {
		c.Close()
		e.client = nil
	}
	return !e.purged
}

// Dir is where everything of this engine lies.
func (e *Engine) Dir() string { return e.dir }

// Containerd is a client of the stores, whose calls are in Namespace unless they say otherwise.
func (e *Engine) Containerd() *client.Client { return e.store.Client }

// ContainerdOpts make further clients of the same stores, as BuildKit's worker does.
func (e *Engine) ContainerdOpts() []client.Opt { return e.store.Options() }

// Snapshotter is the name of the one that images are unpacked with.
func (e *Engine) Snapshotter() string { return e.store.Snapshotter }
