// Package store keeps the bytes of images: containerd's content store, metadata, leases,
// image names and snapshots, opened in process instead of behind a daemon.
//
// Blobs are addressed by digest and synced before they are named. A snapshot is a layer
// unpacked on those below it; it can be made again from its blob. What no image, lease or
// view refers to is collected soon after the last reference went, and never by the clock.
// All calls are in the namespace of the Store unless their context names another one.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/events/exchange"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sampan.dev/sampan/internal/fault"
)

// Names of the snapshotters: how layers lie on each other.
const (
	Overlay = "overlayfs"
	Native  = "native" // copies; for disks that overlayfs cannot lie on
)

// Config of a Store.
type Config struct {
	Dir       string
	Namespace string
	Log       *slog.Logger
}

// A Store is safe for concurrent use.
type Store struct {
	Client      *client.Client
	Snapshotter string

	dir       string
	namespace string
	options   []client.Opt
	db        *metadata.DB
	bolt      *bolt.DB
	snapshots snapshots.Snapshotter
	collector *collector

	views  sync.Mutex
	lowers map[string][]string // chain → directories of its layers
}

// Open takes the directory for this process alone.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of the image store: %w", err)
	}
	// Whoever holds the file holds the store: asked first, before anything is touched.
	file, err := openBolt(filepath.Join(cfg.Dir, "meta.db"))
	if err != nil {
		return nil, err
	}
	route(cfg.Log)
	s := &Store{dir: cfg.Dir, namespace: cfg.Namespace, bolt: file, lowers: map[string][]string{}}
	if err := s.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, cfg Config) error {
	blobs, err := local.NewStore(filepath.Join(s.dir, "content"))
	if err != nil {
		return fmt.Errorf("open the content store: %w", err)
	}
	if s.Snapshotter, s.snapshots, err = openSnapshotter(s.dir, cfg.Log); err != nil {
		return err
	}
	events := exchange.NewExchange()
	s.db = metadata.NewDB(s.bolt, blobs, map[string]snapshots.Snapshotter{s.Snapshotter: s.snapshots}, metadata.WithEventsPublisher(events))
	if err := s.db.Init(ctx); err != nil {
		return fmt.Errorf("bring the image metadata up to date: %w", err)
	}
	s.collector = newCollector(s.db, cfg.Log)
	s.options = []client.Opt{client.WithServices(s.services(events)...), client.WithDefaultNamespace(s.namespace)}
	if s.Client, err = client.New("", s.options...); err != nil {
		return fmt.Errorf("open a client of the stores: %w", err)
	}
	return nil
}

// Options make further clients of the same stores.
func (s *Store) Options() []client.Opt { return s.options }

func (s *Store) services(events client.EventService) []client.ServicesOpt {
	blobs := contentStore{s.db.ContentStore(), s.namespace}
	in := s.namespace
	return []client.ServicesOpt{
		client.WithContentStore(blobs),
		client.WithImageStore(imageStore{metadata.NewImageStore(s.db), in}),
		client.WithContainerStore(metadata.NewContainerStore(s.db)),
		client.WithLeasesService(leaseManager{metadata.NewLeaseManager(s.db), in, s.collector}),
		client.WithNamespaceService(namespaceStore{s.db}),
		client.WithSnapshotters(map[string]snapshots.Snapshotter{
			s.Snapshotter: snapshotter{s.db.Snapshotter(s.Snapshotter), in},
		}),
		client.WithDiffService(differ{walking.NewWalkingDiff(blobs), apply.NewFileSystemApplier(blobs), in}),
		client.WithEventService(events),
		client.WithIntrospectionService(introspector{s.dir}),
	}
}

// Context puts a call into the namespace of the Store.
func (s *Store) Context(ctx context.Context) context.Context { return within(ctx, s.namespace) }

// Content is the store of blobs.
func (s *Store) Content() content.Store { return s.Client.ContentStore() }

// Run collects what nothing refers to, until ctx ends.
func (s *Store) Run(ctx context.Context) error { return s.collector.run(ctx) }

// Close releases the directory.
func (s *Store) Close() error {
	err := s.db.Close()
	if closer, ok := s.snapshots.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	return err
}

func openBolt(path string) (*bolt.DB, error) {
	options := *bolt.DefaultOptions
	options.NoFreelistSync = true // the list is made again at the next start
	options.NoStatistics = true
	options.Timeout = 3 * time.Second
	db, err := bolt.Open(path, 0o600, &options)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fault.Conflict("%s is in use by another process", filepath.Dir(path)).
			Try("stop the other sampan, or give this one another data directory")
	}
	if err != nil {
		return nil, fmt.Errorf("open the image metadata %s: %w", path, err)
	}
	return db, nil
}

// openSnapshotter prefers overlayfs. A directory stays with what it began with: the layers
// of one are nothing to the other.
func openSnapshotter(dir string, log *slog.Logger) (string, snapshots.Snapshotter, error) {
	copies := filepath.Join(dir, Native)
	if _, err := os.Stat(copies); err != nil {
		why := overlayutils.Supported(dir)
		if why == nil {
			s, err := overlay.NewSnapshotter(filepath.Join(dir, Overlay))
			if err != nil {
				return "", nil, fmt.Errorf("open the overlayfs snapshots: %w", err)
			}
			return Overlay, s, nil
		}
		log.Warn("layers are copied, for overlayfs does not work here", "dir", dir, "reason", why)
	}
	s, err := native.NewSnapshotter(copies)
	if err != nil {
		return "", nil, fmt.Errorf("open the copied snapshots: %w", err)
	}
	return Native, s, nil
}

func within(ctx context.Context, namespace string) context.Context {
	if _, ok := namespaces.Namespace(ctx); ok {
		return ctx
	}
	return namespaces.WithNamespace(ctx, namespace)
}

// route brings what containerd's packages log into ours. They write to the logger of the
// whole process, which nobody else in it uses.
func route(log *slog.Logger) {
	std := logrus.StandardLogger()
	std.SetOutput(io.Discard)
	std.SetLevel(logrus.WarnLevel)
	std.ReplaceHooks(logrus.LevelHooks{})
	std.AddHook(hook{log})
}

type hook struct{ log *slog.Logger }

func (hook) Levels() []logrus.Level {
	return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel, logrus.FatalLevel, logrus.PanicLevel}
}

func (h hook) Fire(e *logrus.Entry) error {
	attrs := make([]any, 0, 2*len(e.Data)+2)
	attrs = append(attrs, "text", e.Message)
	for key, value := range e.Data {
		attrs = append(attrs, key, value)
	}
	// What a library calls an error is for its caller, who returns it or logs it himself.
	h.log.Debug("containerd", attrs...)
	return nil
}
