package image

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// Save writes images as a tar file that readers of Docker's format and of OCI layouts know. A
// repository without a tag stands for all its tags. Nothing is written when a name is unknown.
func (s *Store) Save(ctx context.Context, refs []string, platform string, w io.Writer) ([]Image, error) {
	want, err := wanted(platform)
	if err != nil {
		return nil, err
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	options := []archive.ExportOpt{
		archive.WithSkipNonDistributableBlobs(), archive.WithPlatform(want), archive.WithSkipMissing(s.store.Content()),
	}
	var all []Image
	for _, ref := range refs {
		found, err := s.export(ctx, ref, platform)
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			options = append(options, one.option)
			all = append(all, one.image)
		}
	}
	if err := archive.Export(ctx, s.store.Content(), w, options...); err != nil {
		return nil, fmt.Errorf("write images to a file: %w", err)
	}
	return all, nil
}

type exported struct {
	image  Image
	option archive.ExportOpt
}

func (s *Store) export(ctx context.Context, ref, platform string) ([]exported, error) {
	image, err := s.ImageFor(ctx, ref, platform)
	named, nameErr := reference.ParseNormalizedNamed(ref)
	byName := nameErr == nil && !(err == nil && strings.HasPrefix(strings.TrimPrefix(image.ID, "sha256:"), strings.TrimPrefix(ref, "sha256:")))
	if byName && reference.IsNameOnly(named) {
		return s.exportAll(ctx, named, platform)
	}
	if err != nil {
		return nil, err
	}
	name := ""
	if _, digested := named.(reference.Digested); byName && !digested {
		name = named.String()
	}
	one, err := s.exportOne(ctx, image, name, platform)
	return []exported{one}, err
}

func (s *Store) exportAll(ctx context.Context, repo reference.Named, platform string) ([]exported, error) {
	names, err := s.tagged(ctx, repo.Name())
	if fault.Is(err, fault.KindNotFound) {
		return nil, missing(reference.FamiliarName(repo))
	}
	if err != nil {
		return nil, err
	}
	var all []exported
	for _, name := range names {
		image, err := s.ImageFor(ctx, name.String(), platform)
		if err != nil {
			return nil, err
		}
		one, err := s.exportOne(ctx, image, name.String(), platform)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func (s *Store) exportOne(ctx context.Context, image Image, name, platform string) (exported, error) {
	target := image.Target
	if platform != "" {
		target = image.Manifest
	}
	if err := s.hold(ctx, target); err != nil {
		return exported{}, err
	}
	if name != "" {
		return exported{image, archive.WithManifest(target, name)}, nil
	}
	// A name among the annotations would be taken for the image's.
	kept := map[string]string{}
	for key, value := range target.Annotations {
		if key != images.AnnotationImageName && key != ocispec.AnnotationRefName {
			kept[key] = value
		}
	}
	target.Annotations = kept
	return exported{image, archive.WithManifest(target)}, nil
}
