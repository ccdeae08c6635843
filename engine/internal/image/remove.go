package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// A Removal is the names that an image loses, and whether none is left.
type Removal struct {
	Image  Image
	ByName bool     // one name was meant, not the image
	Last   bool     // the image goes
	Names  []string // those that people see
	names  []string
}

// Removal says what removing ref would do: a name goes alone, NAME@DIGEST takes the names that
// the repository NAME gives that image, and an ID takes all. The bytes go with the last name.
func (s *Store) Removal(ctx context.Context, ref string) (Removal, error) {
	image, err := s.Image(ctx, ref)
	if err != nil {
		return Removal{}, err
	}
	records, err := s.records().List(ctx, "target.digest=="+image.Digest)
	if err != nil {
		return Removal{}, fmt.Errorf("list the names of image %s: %w", ref, err)
	}
	r := Removal{Image: image}
	meant := r.meaning(ref, records)
	for _, record := range records {
		if !meant(record) {
			continue
		}
		r.names = append(r.names, record.Name)
		if record.Labels[dangling] == "" {
			r.Names = append(r.Names, familiar(record.Name))
		}
	}
	if len(r.names) == 0 {
		return Removal{}, missing(ref)
	}
	slices.Sort(r.Names)
	r.Last = len(r.names) == len(records)
	return r, nil
}

// meaning tells which records ref is about.
func (r *Removal) meaning(ref string, records []images.Image) func(images.Image) bool {
	full, _ := normal(ref)
	named := func(record images.Image) bool { return record.Name == full }
	switch {
	case strings.Contains(ref, "@"):
		r.ByName = true
		return func(record images.Image) bool { return repository(record.Name) == repository(full) }
	case slices.ContainsFunc(records, named):
		r.ByName = true
		if onlyTag(full, records) {
			// With its tag, the repository has no use for the digests it gave.
			return func(record images.Image) bool { return repository(record.Name) == repository(full) }
		}
		return named
	}
	return func(images.Image) bool { return true }
}

// onlyTag reports whether a repository has no other tag for the image than that of full.
func onlyTag(full string, records []images.Image) bool {
	return !slices.ContainsFunc(records, func(record images.Image) bool {
		named, err := reference.ParseNamed(record.Name)
		if err != nil || record.Name == full {
			return false
		}
		_, tagged := named.(reference.Tagged)
		return tagged && named.Name() == repository(full)
	})
}

// Remove does what r says. A kept image stays, without a name.
func (s *Store) Remove(ctx context.Context, r Removal, keep bool) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	if keep && r.Last {
		return s.strip(ctx, r)
	}
	for _, name := range r.names {
		if err := s.records().Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", name, err)
		}
	}
	return nil
}

// strip takes the names of an image and leaves it dangling.
func (s *Store) strip(ctx context.Context, r Removal) error {
	kept := images.Image{
		Name: repository(r.names[0]) + "@" + r.Image.Digest, Target: r.Image.Target, Labels: map[string]string{dangling: "true"},
	}
	_, err := s.records().Create(ctx, kept)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.records().Update(ctx, kept, "labels")
	}
	if err != nil {
		return fmt.Errorf("keep image %s: %w", r.Image.ID, err)
	}
	for _, name := range r.names {
		if name == kept.Name {
			continue
		}
		if err := s.records().Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", name, err)
		}
	}
	return nil
}

// A Debris is what images that are going leave to the collector.
type Debris map[part]int64

// Debris of images, before they are removed.
func (s *Store) Debris(ctx context.Context, all []Image) (Debris, error) {
	d := Debris{}
	for _, image := range all {
		parts, err := s.parts(ctx, image.Target)
		if err != nil {
			return nil, err
		}
		for p, size := range parts {
			d[p] = size
		}
	}
	return d, nil
}

// Reclaimed counts the bytes of what is not there any more.
func (s *Store) Reclaimed(ctx context.Context, d Debris) (int64, error) {
	var bytes int64
	for p, size := range d {
		gone, err := s.gone(ctx, p)
		if err != nil {
			return bytes, err
		}
		if gone {
			bytes += size
		}
	}
	return bytes, nil
}
