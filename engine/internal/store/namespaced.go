package store

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// The stores of containerd ask the context for a namespace. Over gRPC its client adds the
// default one; in process nobody does, so these do.

type contentStore struct {
	content.Store
	namespace string
}

func (s contentStore) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	return s.Store.Info(within(ctx, s.namespace), d)
}

func (s contentStore) Update(ctx context.Context, info content.Info, fields ...string) (content.Info, error) {
	return s.Store.Update(within(ctx, s.namespace), info, fields...)
}

func (s contentStore) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	return s.Store.Walk(within(ctx, s.namespace), fn, filters...)
}

func (s contentStore) Delete(ctx context.Context, d digest.Digest) error {
	return s.Store.Delete(within(ctx, s.namespace), d)
}

func (s contentStore) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	return s.Store.ReaderAt(within(ctx, s.namespace), desc)
}

func (s contentStore) Status(ctx context.Context, ref string) (content.Status, error) {
	return s.Store.Status(within(ctx, s.namespace), ref)
}

func (s contentStore) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	return s.Store.ListStatuses(within(ctx, s.namespace), filters...)
}

func (s contentStore) Abort(ctx context.Context, ref string) error {
	return s.Store.Abort(within(ctx, s.namespace), ref)
}

func (s contentStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	return s.Store.Writer(within(ctx, s.namespace), opts...)
}

type imageStore struct {
	images.Store
	namespace string
}

func (s imageStore) Get(ctx context.Context, name string) (images.Image, error) {
	return s.Store.Get(within(ctx, s.namespace), name)
}

func (s imageStore) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return s.Store.List(within(ctx, s.namespace), filters...)
}

func (s imageStore) Create(ctx context.Context, i images.Image) (images.Image, error) {
	return s.Store.Create(within(ctx, s.namespace), i)
}

func (s imageStore) Update(ctx context.Context, i images.Image, fields ...string) (images.Image, error) {
	return s.Store.Update(within(ctx, s.namespace), i, fields...)
}

func (s imageStore) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	return s.Store.Delete(within(ctx, s.namespace), name, opts...)
}

type leaseManager struct {
	leases.Manager
	namespace string
	collector *collector
}

func (m leaseManager) Create(ctx context.Context, opts ...leases.Opt) (leases.Lease, error) {
	return m.Manager.Create(within(ctx, m.namespace), opts...)
}

func (m leaseManager) Delete(ctx context.Context, l leases.Lease, opts ...leases.DeleteOpt) error {
	var do leases.DeleteOptions
	for _, opt := range opts {
		if err := opt(ctx, &do); err != nil {
			return err
		}
	}
	if err := m.Manager.Delete(within(ctx, m.namespace), l); err != nil || !do.Synchronous {
		return err
	}
	return m.collector.collect(ctx)
}

func (m leaseManager) List(ctx context.Context, filters ...string) ([]leases.Lease, error) {
	return m.Manager.List(within(ctx, m.namespace), filters...)
}

func (m leaseManager) AddResource(ctx context.Context, l leases.Lease, r leases.Resource) error {
	return m.Manager.AddResource(within(ctx, m.namespace), l, r)
}

func (m leaseManager) DeleteResource(ctx context.Context, l leases.Lease, r leases.Resource) error {
	return m.Manager.DeleteResource(within(ctx, m.namespace), l, r)
}

func (m leaseManager) ListResources(ctx context.Context, l leases.Lease) ([]leases.Resource, error) {
	return m.Manager.ListResources(within(ctx, m.namespace), l)
}

type snapshotter struct {
	snapshots.Snapshotter
	namespace string
}

func (s snapshotter) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return s.Snapshotter.Stat(within(ctx, s.namespace), key)
}

func (s snapshotter) Update(ctx context.Context, info snapshots.Info, fields ...string) (snapshots.Info, error) {
	return s.Snapshotter.Update(within(ctx, s.namespace), info, fields...)
}

func (s snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.Snapshotter.Usage(within(ctx, s.namespace), key)
}

func (s snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.Snapshotter.Mounts(within(ctx, s.namespace), key)
}

func (s snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.Prepare(within(ctx, s.namespace), key, parent, opts...)
}

func (s snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.View(within(ctx, s.namespace), key, parent, opts...)
}

func (s snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.Snapshotter.Commit(within(ctx, s.namespace), name, key, opts...)
}

func (s snapshotter) Remove(ctx context.Context, key string) error {
	return s.Snapshotter.Remove(within(ctx, s.namespace), key)
}

func (s snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.Snapshotter.Walk(within(ctx, s.namespace), fn, filters...)
}

type differ struct {
	diff.Comparer
	diff.Applier
	namespace string
}

func (d differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispec.Descriptor, error) {
	return d.Comparer.Compare(within(ctx, d.namespace), lower, upper, opts...)
}

func (d differ) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	return d.Applier.Apply(within(ctx, d.namespace), desc, mounts, opts...)
}

// A namespaceStore opens the transaction that containerd's wants to be given.
type namespaceStore struct{ db *metadata.DB }

func (s namespaceStore) Create(ctx context.Context, namespace string, labels map[string]string) error {
	return s.update(func(n namespaces.Store) error { return n.Create(ctx, namespace, labels) })
}

func (s namespaceStore) SetLabel(ctx context.Context, namespace, key, value string) error {
	return s.update(func(n namespaces.Store) error { return n.SetLabel(ctx, namespace, key, value) })
}

func (s namespaceStore) Delete(ctx context.Context, namespace string, opts ...namespaces.DeleteOpts) error {
	return s.update(func(n namespaces.Store) error { return n.Delete(ctx, namespace, opts...) })
}

func (s namespaceStore) Labels(ctx context.Context, namespace string) (labels map[string]string, err error) {
	err = s.view(func(n namespaces.Store) error {
		labels, err = n.Labels(ctx, namespace)
		return err
	})
	return labels, err
}

func (s namespaceStore) List(ctx context.Context) (names []string, err error) {
	err = s.view(func(n namespaces.Store) error {
		names, err = n.List(ctx)
		return err
	})
	return names, err
}

func (s namespaceStore) update(fn func(namespaces.Store) error) error {
	return s.db.Update(func(tx *bolt.Tx) error { return fn(metadata.NewNamespaceStore(tx)) })
}

func (s namespaceStore) view(fn func(namespaces.Store) error) error {
	return s.db.View(func(tx *bolt.Tx) error { return fn(metadata.NewNamespaceStore(tx)) })
}
