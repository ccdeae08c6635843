package image

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// dangling is the label of a record that only keeps an image which has no name.
const dangling = "sampan.dev/dangling"

// untagged is the repository of images that never had a name.
const untagged = "localhost/untagged"

// called sorts out what records say: the names, NAME@DIGEST, and when the last name was given.
func called(records []images.Image) (names, digests []string, tagged time.Time) {
	for _, record := range records {
		if record.UpdatedAt.After(tagged) {
			tagged = record.UpdatedAt
		}
		if record.Labels[dangling] != "" {
			continue
		}
		if !strings.Contains(record.Name, "@") {
			names = append(names, familiar(record.Name))
		}
		digests = append(digests, familiar(repository(record.Name)+"@"+record.Target.Digest.String()))
	}
	sort.Strings(names)
	sort.Strings(digests)
	return names, slices.Compact(digests), tagged
}

// Tag gives an image a further name.
func (s *Store) Tag(ctx context.Context, ref, name string) error {
	image, err := s.Image(ctx, ref)
	if err != nil {
		return err
	}
	full, err := nameOf(name)
	if err != nil {
		return err
	}
	return s.name(ctx, full, image.Target)
}

// name points a full name at target; empty: target shall stay without one. The image that the
// name pointed at before, if it was the last, is kept by its digest.
func (s *Store) name(ctx context.Context, full string, target ocispec.Descriptor) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	target.Annotations = nil
	if full == "" {
		return s.keep(ctx, images.Image{Name: untagged, Target: target})
	}
	old, err := s.records().Get(ctx, full)
	switch {
	case errdefs.IsNotFound(err):
		_, err = s.records().Create(ctx, images.Image{Name: full, Target: target})
	case err != nil:
	case old.Target.Digest == target.Digest && old.Labels[dangling] == "":
		return nil // a write would cost a sync
	default:
		if err = s.keep(ctx, old); err == nil {
			_, err = s.records().Update(ctx, images.Image{Name: full, Target: target}, "target", "labels")
		}
	}
	if err != nil {
		return fmt.Errorf("name image %s: %w", full, err)
	}
	return s.unkeep(ctx, target)
}

// keep gives an image that is about to lose a name one by digest, unless it has further ones.
func (s *Store) keep(ctx context.Context, old images.Image) error {
	records, err := s.records().List(ctx, "target.digest=="+old.Target.Digest.String())
	if err != nil {
		return fmt.Errorf("look up the names of image %s: %w", old.Target.Digest, err)
	}
	if slices.ContainsFunc(records, func(r images.Image) bool { return r.Name != old.Name }) {
		return nil
	}
	_, err = s.records().Create(ctx, images.Image{
		Name: repository(old.Name) + "@" + old.Target.Digest.String(), Target: old.Target, Labels: map[string]string{dangling: "true"},
	})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep the image that was %s: %w", old.Name, err)
	}
	return nil
}

// unkeep drops what kept an image that has a name now.
func (s *Store) unkeep(ctx context.Context, target ocispec.Descriptor) error {
	records, err := s.records().List(ctx, "target.digest=="+target.Digest.String())
	if err != nil {
		return fmt.Errorf("look up the names of image %s: %w", target.Digest, err)
	}
	for _, record := range records {
		if record.Labels[dangling] == "" {
			continue
		}
		if err := s.records().Delete(ctx, record.Name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("drop the name %s: %w", record.Name, err)
		}
	}
	return nil
}

// repository is a full name without its tag and digest.
func repository(full string) string {
	named, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return full
	}
	return named.Name()
}

// normal is the full form of what a person wrote: "hello" is docker.io/library/hello:latest.
func normal(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// nameOf is normal for names to give, which a digest is not. An empty one stays empty.
func nameOf(ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	if strings.Contains(ref, "@") {
		return "", fault.Invalid("%q names an image by its digest, which nobody can choose", ref).Try("use NAME:TAG")
	}
	full, err := normal(ref)
	if err != nil {
		return "", fault.Invalid("%q is not a name for an image: %w", ref, err).Try("use lower case letters, digits, dots and dashes: owner/name:tag")
	}
	return full, nil
}

func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

func badPlatform(text string, err error) error {
	return fault.Invalid("%q is not a platform: %w", text, err).Try("write it as %s", platforms.Format(platforms.DefaultSpec()))
}
