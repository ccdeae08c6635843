// Package image makes, fetches, names and lists images (OCI image specification 1.1).
//
// A reference is what people write: "hello", "debian:12", "name@sha256:…" or the beginning of
// an image's ID. A name that moves to another image leaves the old one behind without a
// name, to be found by its digest until it is removed, as Docker does it: what runs from it
// can be started again. An image that is returned is unpacked and survives power loss.
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/internal/fault"
)

// An Image that can be run.
type Image struct {
	ID      string   // digest of its configuration
	Digest  string   // of its manifest
	Names   []string // references in the form that people write; none when they moved on
	Size    int64    // bytes of all its layers as they are kept; unpacked they take more
	Created time.Time
	Config  Config
	Chain   string // names its unpacked layers; empty without layers
}

// A Config is what an image says about the containers made from it.
type Config struct {
	Entrypoint []string
	Command    []string
	Env        []string
	WorkDir    string
	User       string
	Ports      []string // "8080/tcp"
	Volumes    []string // paths
	Labels     map[string]string
	StopSignal string
	Health     *Health
	Created    time.Time // zero: the beginning of 1970, so that equal input gives equal digests
}

// Health is a command that is run in a container to see whether it works.
type Health struct {
	Command     []string // Docker's form: CMD and arguments, CMD-SHELL and a line, or NONE
	Interval    time.Duration
	Timeout     time.Duration
	StartPeriod time.Duration
	Retries     int
}

// A Store of images.
type Store struct {
	store *store.Store
	log   *slog.Logger
	keys  keys
	marks *marks

	closing  chan struct{}
	settling atomic.Bool // a sync is planned
	syncing  sync.WaitGroup

	naming sync.Mutex // a name's old image is kept in the same step that moves the name
}

// New keeps images in s and what it knows of layers in dir.
func New(s *store.Store, dir string, log *slog.Logger) *Store {
	return &Store{
		store: s, log: log, keys: keys{dir}, marks: newMarks(filepath.Join(dir, "unsynced")), closing: make(chan struct{}),
	}
}

// Image finds one by name, digest or the beginning of its ID.
func (s *Store) Image(ctx context.Context, ref string) (Image, error) {
	if name, err := normal(ref); err == nil {
		record, err := s.records().Get(ctx, name)
		if err == nil {
			return s.load(ctx, record.Target, []string{record.Name})
		}
		if !errdefs.IsNotFound(err) {
			return Image{}, fmt.Errorf("look up image %s: %w", ref, err)
		}
	}
	return s.byDigest(ctx, ref)
}

// byDigest accepts "name@sha256:…", "sha256:…" and four or more digits of an ID.
func (s *Store) byDigest(ctx context.Context, ref string) (Image, error) {
	hex := ref
	if _, after, ok := strings.Cut(ref, "@"); ok {
		hex = after
	}
	hex = strings.TrimPrefix(hex, "sha256:")
	missing := fault.NotFound("there is no image %s here", ref)
	if len(hex) < 4 || strings.Trim(hex, "0123456789abcdef") != "" {
		return Image{}, missing
	}
	if len(hex) == 64 {
		records, err := s.records().List(ctx, "target.digest==sha256:"+hex)
		if err != nil {
			return Image{}, fmt.Errorf("look up image %s: %w", ref, err)
		}
		if len(records) > 0 {
			return s.load(ctx, records[0].Target, namesOf(records))
		}
	}
	all, err := s.Images(ctx)
	if err != nil {
		return Image{}, err
	}
	var found []Image
	for _, image := range all {
		if strings.HasPrefix(image.ID, "sha256:"+hex) || strings.HasPrefix(image.Digest, "sha256:"+hex) {
			found = append(found, image)
		}
	}
	switch len(found) {
	case 0:
		return Image{}, missing
	case 1:
		return found[0], nil
	}
	return Image{}, fault.Invalid("%s is the beginning of %d images", ref, len(found)).Try("write more of it")
}

func namesOf(records []images.Image) []string {
	names := make([]string, len(records))
	for i, record := range records {
		names[i] = record.Name
	}
	return names
}

// Images lists all, the newest first.
func (s *Store) Images(ctx context.Context) ([]Image, error) {
	records, err := s.records().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	names := map[digest.Digest][]string{}
	targets := map[digest.Digest]ocispec.Descriptor{}
	for _, record := range records {
		names[record.Target.Digest] = append(names[record.Target.Digest], record.Name)
		targets[record.Target.Digest] = record.Target
	}
	all := make([]Image, 0, len(targets))
	for id, target := range targets {
		image, err := s.load(ctx, target, names[id])
		if errdefs.IsNotFound(err) {
			continue // of another platform, or an artifact that is no image
		}
		if err != nil {
			return nil, err
		}
		all = append(all, image)
	}
	sort.Slice(all, func(i, j int) bool {
		if !all[i].Created.Equal(all[j].Created) {
			return all[i].Created.After(all[j].Created)
		}
		return all[i].ID < all[j].ID
	})
	return all, nil
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
	target, err := s.target(ctx, image)
	if err != nil {
		return err
	}
	return s.name(ctx, full, target)
}

// A Removal is the names that an image loses, and whether none is left.
type Removal struct {
	Image Image
	Last  bool
	names []string
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
	full, _ := normal(ref)
	meant := func(name string) bool { return true }
	switch {
	case slices.ContainsFunc(records, func(r images.Image) bool { return r.Name == full }):
		meant = func(name string) bool { return name == full }
	case strings.Contains(ref, "@"):
		meant = func(name string) bool { return repository(name) == repository(full) }
	}
	r := Removal{Image: image}
	for _, record := range records {
		if meant(record.Name) {
			r.names = append(r.names, record.Name)
		}
	}
	if len(r.names) == 0 {
		return Removal{}, fault.NotFound("there is no image %s here", ref)
	}
	r.Last = len(r.names) == len(records)
	return r, nil
}

// Remove does what r says.
func (s *Store) Remove(ctx context.Context, r Removal) error {
	for _, name := range r.names {
		if err := s.records().Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", name, err)
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

func (s *Store) records() images.Store { return s.store.Client.ImageService() }

func (s *Store) target(ctx context.Context, image Image) (ocispec.Descriptor, error) {
	records, err := s.records().List(ctx, "target.digest=="+image.Digest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("look up image %s: %w", image.ID, err)
	}
	if len(records) == 0 {
		return ocispec.Descriptor{}, fault.NotFound("image %s was just removed", image.ID)
	}
	return records[0].Target, nil
}

// name points a full name at target. The image it pointed at before keeps a name of digest.
func (s *Store) name(ctx context.Context, full string, target ocispec.Descriptor) error {
	s.naming.Lock()
	defer s.naming.Unlock()
	old, err := s.records().Get(ctx, full)
	switch {
	case errdefs.IsNotFound(err):
		_, err = s.records().Create(ctx, images.Image{Name: full, Target: target})
		if err != nil {
			return fmt.Errorf("name image %s: %w", full, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("look up image %s: %w", full, err)
	case old.Target.Digest == target.Digest:
		return nil
	}
	if err := s.keep(ctx, old); err != nil {
		return err
	}
	if _, err := s.records().Update(ctx, images.Image{Name: full, Target: target}, "target"); err != nil {
		return fmt.Errorf("name image %s: %w", full, err)
	}
	return nil
}

// keep gives an image that is about to lose a name one by digest.
func (s *Store) keep(ctx context.Context, old images.Image) error {
	_, err := s.records().Create(ctx, images.Image{Name: repository(old.Name) + "@" + old.Target.Digest.String(), Target: old.Target})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep the image that was %s: %w", old.Name, err)
	}
	return nil
}

// load reads what an image says of itself.
func (s *Store) load(ctx context.Context, target ocispec.Descriptor, names []string) (Image, error) {
	blobs := s.store.Content()
	manifest, err := images.Manifest(ctx, blobs, target, platforms.Default())
	if err != nil {
		return Image{}, fmt.Errorf("read the manifest of image %s: %w", target.Digest, err)
	}
	raw, err := content.ReadBlob(ctx, blobs, manifest.Config)
	if err != nil {
		return Image{}, fmt.Errorf("read the configuration of image %s: %w", target.Digest, err)
	}
	var file configFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return Image{}, fmt.Errorf("read the configuration of image %s: %w", target.Digest, err)
	}
	image := Image{
		ID: manifest.Config.Digest.String(), Digest: target.Digest.String(), Config: file.config(),
	}
	if file.Created != nil {
		image.Created = *file.Created
	}
	for _, layer := range manifest.Layers {
		image.Size += layer.Size
	}
	if len(file.RootFS.DiffIDs) > 0 {
		image.Chain = identity.ChainID(file.RootFS.DiffIDs).String()
	}
	for _, name := range names {
		if !strings.Contains(name, "@") {
			image.Names = append(image.Names, familiar(name))
		}
	}
	sort.Strings(image.Names)
	return image, nil
}

// normal is the full form of what a person wrote: "hello" is docker.io/library/hello:latest.
func normal(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// nameOf is normal for names to give, which a digest is not.
func nameOf(ref string) (string, error) {
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
