package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// Loaded is an image that came in a file.
type Loaded struct {
	Image
	Name string // in the file; empty: none
}

// Import takes a tar file of images, in Docker's format or an OCI layout, plain or compressed.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	loaded, err := s.Load(ctx, r, "", nil)
	all := make([]Image, len(loaded))
	for i, one := range loaded {
		all[i] = one.Image
	}
	return all, err
}

// Load does what Import does and tells how far it is. Of an image for several platforms, all
// that is in the file is kept, and that of platform, empty for the best one, must be there.
func (s *Store) Load(ctx context.Context, r io.Reader, platform string, progress func(Progress)) ([]Loaded, error) {
	want := anyPlatform()
	if platform != "" {
		p, err := platformOf(platform)
		if err != nil {
			return nil, err
		}
		want = platforms.OnlyStrict(p)
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	tar, err := compression.DecompressStream(r)
	if err != nil {
		return nil, fault.Invalid("this is not a tar file of images: %w", err)
	}
	defer tar.Close()
	index, err := archive.ImportIndex(ctx, s.store.Content(), tar)
	if err != nil {
		if out := full(err, "import images"); fault.Is(out, fault.KindFull) || ctx.Err() != nil {
			return nil, out
		}
		return nil, fault.Invalid("this is not a tar file of images: %w", err).Try("make one with docker save, or skopeo copy to oci-archive:")
	}
	return s.adoptAll(ctx, index, want, progress)
}

// adoptAll unpacks and names what an index lists.
func (s *Store) adoptAll(ctx context.Context, index ocispec.Descriptor, want platforms.MatchComparer, progress func(Progress)) ([]Loaded, error) {
	listed, err := images.Children(ctx, s.store.Content(), index)
	if err != nil {
		return nil, fmt.Errorf("read the index of the imported images: %w", err)
	}
	var all []Loaded
	for _, target := range listed {
		if target.Annotations[images.AnnotationManifestSubject] != "" {
			continue // about another one
		}
		one, err := s.adopt(ctx, target, want, progress)
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, nil
}

func (s *Store) adopt(ctx context.Context, target ocispec.Descriptor, want platforms.MatchComparer, progress func(Progress)) (Loaded, error) {
	if err := s.link(ctx, target); err != nil {
		return Loaded{}, err
	}
	best, err := s.whole(ctx, target, want)
	if err != nil {
		return Loaded{}, err
	}
	name, err := nameOf(target.Annotations[images.AnnotationImageName])
	if err != nil {
		name = ""
	}
	if err := s.unpack(ctx, name, best.Descriptor, loading(progress)); err != nil {
		return Loaded{}, err
	}
	if err := s.name(ctx, name, target); err != nil {
		return Loaded{}, err
	}
	image, err := s.pointed(ctx, target, want)
	if name != "" {
		name = familiar(name)
	}
	return Loaded{image, name}, err
}

// link lets the collector find what is here of target.
func (s *Store) link(ctx context.Context, target ocispec.Descriptor) error {
	blobs := s.store.Content()
	handler := func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, err := blobs.Info(ctx, desc.Digest); err != nil {
			if errdefs.IsNotFound(err) {
				return nil, images.ErrSkipDesc
			}
			return nil, err
		}
		return images.Children(ctx, blobs, desc)
	}
	if err := images.Walk(ctx, images.SetChildrenLabels(blobs, handler), target); err != nil {
		return fault.Invalid("an image in the file is broken: %w", err)
	}
	return nil
}

// whole is the best variant, with all its layers.
func (s *Store) whole(ctx context.Context, target ocispec.Descriptor, want platforms.MatchComparer) (variant, error) {
	best, err := s.variant(ctx, target, want)
	if errdefs.IsNotFound(err) {
		return best, fault.Invalid("an image in the file is incomplete, or is not for the platform that was asked for: %w", err)
	}
	if err != nil {
		return best, fault.Invalid("an image in the file is broken: %w", err)
	}
	ok, err := s.complete(ctx, best.Descriptor)
	if err == nil && !ok {
		err = fault.Invalid("an image in the file is incomplete: it lacks layers")
	}
	return best, err
}

func loading(progress func(Progress)) unpacked {
	if progress == nil {
		return nil
	}
	return func(layer rootfs.Layer, read int64, done bool) {
		progress(Progress{ID: short(layer.Blob.Digest), Status: "Loading layer", Done: read, Total: layer.Blob.Size})
	}
}

// randomID makes a reference that no other write has.
func randomID() string { return rand.Text() }
