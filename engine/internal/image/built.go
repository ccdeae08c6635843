package image

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Built takes an image whose bytes another has put into the store and gives it its names; it
// dangles without. The caller holds the bytes until then.
func (s *Store) Built(ctx context.Context, target ocispec.Descriptor, names []string) (Image, error) {
	full := make([]string, len(names))
	for i, name := range names {
		var err error
		if full[i], err = nameOf(name); err != nil {
			return Image{}, err
		}
	}
	if len(full) == 0 {
		full = []string{""}
	}
	if err := s.unpack(ctx, full[0], target, nil); err != nil {
		return Image{}, err
	}
	for _, name := range full {
		before, known := s.records().Get(ctx, name)
		if err := s.name(ctx, name, target); err != nil {
			return Image{}, err
		}
		if known == nil && before.Target.Digest != target.Digest && s.alike(ctx, before.Target, target) {
			if err := s.unkeep(ctx, before.Target); err != nil {
				return Image{}, err
			}
		}
	}
	return s.pointed(ctx, target, anyPlatform())
}

// alike says that two images are the same but for what is told of how they were built, which
// is new each time.
func (s *Store) alike(ctx context.Context, a, b ocispec.Descriptor) bool {
	one, err := s.variant(ctx, a, anyPlatform())
	if err != nil {
		return false
	}
	other, err := s.variant(ctx, b, anyPlatform())
	return err == nil && one.manifest.Config.Digest == other.manifest.Config.Digest
}
