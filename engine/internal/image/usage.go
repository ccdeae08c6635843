package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Usage is what an image takes on the disk.
type Usage struct {
	Content  int64 // bytes of its blobs
	Unpacked int64 // bytes of its layers, unpacked
	Shared   int64 // of both, what other images need too
}

// Total of an image alone.
func (u Usage) Total() int64 { return u.Content + u.Unpacked }

// A part of images: a blob, or an unpacked layer.
type part struct {
	chain bool
	id    string
}

// Usages measures images, those that share parts among them, and what all take together: what
// is shared counts once.
func (s *Store) Usages(ctx context.Context, all []Image) ([]Usage, int64, error) {
	each := make([]map[part]int64, len(all))
	users, total := map[part]int{}, int64(0)
	for i, image := range all {
		parts, err := s.parts(ctx, image.Target)
		if err != nil {
			return nil, 0, err
		}
		each[i] = parts
		for p, size := range parts {
			if users[p]++; users[p] == 1 {
				total += size
			}
		}
	}
	usages := make([]Usage, len(all))
	for i, parts := range each {
		usages[i] = sum(parts, users)
	}
	return usages, total, nil
}

func sum(parts map[part]int64, users map[part]int) Usage {
	var u Usage
	for p, size := range parts {
		if p.chain {
			u.Unpacked += size
		} else {
			u.Content += size
		}
		if users[p] > 1 {
			u.Shared += size
		}
	}
	return u
}

// parts of an image that are here, with all its variants, and their bytes.
func (s *Store) parts(ctx context.Context, target ocispec.Descriptor) (map[part]int64, error) {
	blobs, err := s.present(ctx, target)
	if err != nil {
		return nil, err
	}
	parts := map[part]int64{}
	for _, blob := range blobs {
		parts[part{id: blob.Digest.String()}] = blob.Size
		if !images.IsConfigType(blob.MediaType) {
			continue
		}
		_, file, err := s.configuration(ctx, blob)
		if err != nil {
			continue // an attestation has one that is no image's
		}
		sizes, err := s.layerSizes(ctx, file.RootFS.DiffIDs)
		if err != nil {
			return nil, err
		}
		for i, size := range sizes {
			parts[part{true, identity.ChainID(slices.Clone(file.RootFS.DiffIDs[:i+1])).String()}] = size
		}
	}
	return parts, nil
}

// gone reports whether the collector took a part.
func (s *Store) gone(ctx context.Context, p part) (bool, error) {
	var err error
	if p.chain {
		_, err = s.store.Client.SnapshotService(s.store.Snapshotter).Stat(ctx, p.id)
	} else {
		_, err = s.store.Content().Info(ctx, digest.Digest(p.id))
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return false, fmt.Errorf("look for %s: %w", p.id, err)
	}
	return err != nil, nil
}

// A Variant is what an image is for one platform, or what is attached to it.
type Variant struct {
	Descriptor ocispec.Descriptor // of its manifest
	Platform   ocispec.Platform
	For        string // the manifest that an attestation is about; empty: this is an image
	Here       bool   // with all its layers
	Usage      Usage
}

// Variants lists what the index of an image says of platforms, and what of it is here.
func (s *Store) Variants(ctx context.Context, image Image) ([]Variant, error) {
	list := []ocispec.Descriptor{image.Target}
	if images.IsIndexType(image.Target.MediaType) {
		index, err := s.index(ctx, image.Target)
		if err != nil {
			return nil, err
		}
		list = index.Manifests
	}
	all := make([]Variant, 0, len(list))
	for _, desc := range list {
		v, err := s.describe(ctx, desc)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (s *Store) describe(ctx context.Context, desc ocispec.Descriptor) (Variant, error) {
	v := Variant{Descriptor: desc}
	if desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
		v.For = desc.Annotations["vnd.docker.reference.digest"]
	}
	parts, err := s.parts(ctx, desc)
	if err != nil {
		return v, err
	}
	v.Usage = sum(parts, nil)
	if v.Here, err = s.complete(ctx, desc); err != nil {
		return v, err
	}
	if desc.Platform != nil {
		v.Platform = *desc.Platform
	} else if _, file, err := s.of(ctx, desc); err == nil {
		v.Platform = file.Platform
	}
	return v, nil
}
