package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// unpacked is told of each layer that was not there: how many of its bytes were read, and at
// last that it is done.
type unpacked func(layer rootfs.Layer, read int64, done bool)

// unpack makes the snapshots of the best variant of an image, those that are not there yet.
func (s *Store) unpack(ctx context.Context, name string, target ocispec.Descriptor, tell unpacked) error {
	best, err := s.variant(ctx, target, anyPlatform())
	if err != nil {
		return full(err, "unpack image "+familiar(name))
	}
	fresh, err := s.missing(ctx, best.Descriptor)
	if err != nil {
		return full(err, "unpack image "+familiar(name))
	}
	if tell == nil {
		tell = func(rootfs.Layer, int64, bool) {}
	}
	extract := func() error { return s.extract(ctx, best, tell) }
	if len(fresh) == 0 {
		err = extract()
	} else {
		err = s.marks.guard(best.Descriptor, fresh, extract)
		s.settle()
	}
	if err == nil {
		return nil
	}
	// A broken extract may be large, and the disk may be full of it.
	if cerr := s.store.Collect(context.WithoutCancel(ctx)); cerr != nil {
		s.log.Error("the rest of an image that could not be unpacked stays on the disk", "err", cerr)
	}
	return full(err, "unpack image "+familiar(name))
}

func (s *Store) extract(ctx context.Context, v variant, tell unpacked) error {
	layers, err := s.stack(ctx, v)
	if err != nil {
		return err
	}
	var below []digest.Digest
	for _, layer := range layers {
		if err := s.extractLayer(ctx, layer, below, tell); err != nil {
			return err
		}
		below = append(below, layer.Diff.Digest)
	}
	if len(below) == 0 {
		return nil
	}
	// The collector follows this label from the image to its snapshots.
	label := "containerd.io/gc.ref.snapshot." + s.store.Snapshotter
	info := content.Info{Digest: v.manifest.Config.Digest, Labels: map[string]string{label: identity.ChainID(below).String()}}
	_, err = s.store.Content().Update(ctx, info, "labels."+label)
	return err
}

func (s *Store) extractLayer(ctx context.Context, layer rootfs.Layer, below []digest.Digest, tell unpacked) error {
	count := diff.WithProgress(func(_ ocispec.Descriptor, read int64) { tell(layer, read, false) })
	snapshots := s.store.Client.SnapshotService(s.store.Snapshotter)
	fresh, err := rootfs.ApplyLayerWithOpts(ctx, layer, below, snapshots, s.store.Client.DiffService(), nil, []diff.ApplyOpt{count})
	if err != nil {
		return broken(ctx, layer, err)
	}
	if !fresh {
		return nil
	}
	tell(layer, layer.Blob.Size, true)
	// What was just verified need not be computed again.
	info := content.Info{Digest: layer.Blob.Digest, Labels: map[string]string{uncompressed: layer.Diff.Digest.String()}}
	_, err = s.store.Content().Update(ctx, info, "labels."+uncompressed)
	return err
}

// broken tells a layer that cannot be unpacked from a machine that cannot.
func broken(ctx context.Context, layer rootfs.Layer, err error) error {
	err = full(err, "unpack layer "+short(layer.Blob.Digest))
	if _, known := fault.Of(err); known || ctx.Err() != nil {
		return err
	}
	return fault.Invalid("a layer of the image is broken: %w", err)
}

// stack pairs the blobs of a variant with what they are unpacked.
func (s *Store) stack(ctx context.Context, v variant) ([]rootfs.Layer, error) {
	_, file, err := s.configuration(ctx, v.manifest.Config)
	if err != nil {
		return nil, err
	}
	if len(file.RootFS.DiffIDs) != len(v.manifest.Layers) {
		return nil, fault.Invalid("the image is broken: its manifest has %d layers, its configuration %d",
			len(v.manifest.Layers), len(file.RootFS.DiffIDs))
	}
	layers := make([]rootfs.Layer, len(v.manifest.Layers))
	for i, blob := range v.manifest.Layers {
		layers[i] = rootfs.Layer{Blob: blob, Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: file.RootFS.DiffIDs[i]}}
	}
	return layers, nil
}

// of is the best variant of target, with its configuration.
func (s *Store) of(ctx context.Context, target ocispec.Descriptor) (variant, configFile, error) {
	v, err := s.variant(ctx, target, anyPlatform())
	if err != nil {
		return v, configFile{}, err
	}
	_, file, err := s.configuration(ctx, v.manifest.Config)
	if errdefs.IsNotFound(err) {
		err = fmt.Errorf("image %s has no configuration: %w", target.Digest, err)
	}
	return v, file, err
}
