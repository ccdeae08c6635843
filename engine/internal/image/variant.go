package image

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A variant is an image for one platform.
type variant struct {
	ocispec.Descriptor // of its manifest
	manifest           ocispec.Manifest
}

// preferring takes every platform, and its own before the others.
type preferring struct{ own platforms.MatchComparer }

func anyPlatform() platforms.MatchComparer { return preferring{platforms.Default()} }

func (p preferring) Match(one ocispec.Platform) bool { return one.OS != "unknown" }

func (p preferring) Less(a, b ocispec.Platform) bool {
	if first, second := p.own.Match(a), p.own.Match(b); first != second || !first {
		return first && !second
	}
	return p.own.Less(a, b)
}

// variant finds the best one for want among those that are here. Only their manifests and
// configurations are looked at.
func (s *Store) variant(ctx context.Context, target ocispec.Descriptor, want platforms.MatchComparer) (variant, error) {
	if images.IsManifestType(target.MediaType) {
		return s.single(ctx, target, want)
	}
	if !images.IsIndexType(target.MediaType) {
		return variant{}, fmt.Errorf("%s is a %s and no image: %w", target.Digest, target.MediaType, errdefs.ErrNotFound)
	}
	index, err := s.index(ctx, target)
	if err != nil {
		return variant{}, err
	}
	for _, desc := range candidates(index, want) {
		found, err := s.variant(ctx, desc, want)
		if !errdefs.IsNotFound(err) {
			return found, err
		}
	}
	return variant{}, fmt.Errorf("no match for platform in manifest %s: %w", target.Digest, errdefs.ErrNotFound)
}

// single reads a manifest. What says of which platform it is was asked by candidates.
func (s *Store) single(ctx context.Context, target ocispec.Descriptor, want platforms.MatchComparer) (variant, error) {
	found := variant{Descriptor: target}
	raw, err := content.ReadBlob(ctx, s.store.Content(), target)
	if err != nil {
		return found, fmt.Errorf("read the manifest of image %s: %w", target.Digest, err)
	}
	if err := json.Unmarshal(raw, &found.manifest); err != nil {
		return found, fmt.Errorf("read the manifest of image %s: %w", target.Digest, err)
	}
	if !images.IsConfigType(found.manifest.Config.MediaType) {
		return found, fmt.Errorf("%s is no image: %w", target.Digest, errdefs.ErrNotFound)
	}
	_, file, err := s.configuration(ctx, found.manifest.Config)
	if err != nil {
		return found, fmt.Errorf("read the configuration of image %s: %w", target.Digest, err)
	}
	if target.Platform == nil && file.OS != "" && !want.Match(platforms.Normalize(file.Platform)) {
		return found, fmt.Errorf("image %s is for %s: %w", target.Digest, platforms.FormatAll(file.Platform), errdefs.ErrNotFound)
	}
	return found, nil
}

func (s *Store) index(ctx context.Context, target ocispec.Descriptor) (ocispec.Index, error) {
	var index ocispec.Index
	raw, err := content.ReadBlob(ctx, s.store.Content(), target)
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil {
		return index, fmt.Errorf("read the index of image %s: %w", target.Digest, err)
	}
	return index, nil
}

// candidates are what an index has for want, the best first.
func candidates(index ocispec.Index, want platforms.MatchComparer) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, desc := range index.Manifests {
		if desc.Platform == nil || want.Match(*desc.Platform) {
			list = append(list, desc)
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].Platform == nil || list[j].Platform == nil {
			return list[i].Platform != nil && list[j].Platform == nil
		}
		return want.Less(*list[i].Platform, *list[j].Platform)
	})
	return list
}

// present lists what target is made of, those blobs that are here, itself first.
func (s *Store) present(ctx context.Context, target ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	err := images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, err := s.store.Content().Info(ctx, desc.Digest); err != nil {
			if errdefs.IsNotFound(err) {
				return nil, images.ErrSkipDesc
			}
			return nil, err
		}
		all = append(all, desc)
		return images.Children(ctx, s.store.Content(), desc)
	}), target)
	if err != nil {
		return nil, fmt.Errorf("look at the parts of image %s: %w", target.Digest, err)
	}
	return all, nil
}

// complete reports whether all that target is made of is here.
func (s *Store) complete(ctx context.Context, target ocispec.Descriptor) (bool, error) {
	whole := true
	err := images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		_, err := s.store.Content().Info(ctx, desc.Digest)
		if errdefs.IsNotFound(err) {
			whole = false
			return nil, images.ErrSkipDesc
		}
		if err != nil {
			return nil, err
		}
		return images.Children(ctx, s.store.Content(), desc)
	}), target)
	return whole, err
}
