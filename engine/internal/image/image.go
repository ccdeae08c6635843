// Package image makes, fetches, names, lists, sends and removes images (OCI image
// specification 1.1, OCI distribution specification 1.1).
//
// A reference is what people write: "hello", "debian:12", "name@sha256:…" or the beginning of
// an image's ID. A name that moves to another image leaves the old one behind without a
// name, dangling, to be found by its digest until it is removed, as Docker does it: what runs
// from it can be started again. A name may point at an index: the same image for several
// platforms, each a variant, of which this machine's is preferred and not all need be here. An
// image that is returned is unpacked and survives power loss.
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/internal/fault"
)

// An Image that can be run.
type Image struct {
	ID       string             // digest of its configuration
	Digest   string             // what its names point at: its manifest, or an index of several
	Target   ocispec.Descriptor // of Digest
	Manifest ocispec.Descriptor // of the variant that the rest is about
	Names    []string           // references in the form that people write; none when they moved on
	Digests  []string           // NAME@DIGEST of each repository that has it
	Tagged   time.Time          // when it last got a name
	Size     int64              // bytes of its layers as they are kept; Usage knows what they take unpacked
	Created  time.Time
	Config   Config
	Platform ocispec.Platform
	Comment  string
	Layers   []string        // digests of the unpacked layers, the lowest first
	Chain    string          // names its unpacked layers; empty without layers
	Raw      json.RawMessage // the configuration as it is
}

// Dangling images have no name.
func (i Image) Dangling() bool { return len(i.Names) == 0 }

// A Store of images.
type Store struct {
	store *store.Store
	log   *slog.Logger
	keys  keys
	marks *marks
	ids   sync.Map // target → ID, of manifests

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
	return s.find(ctx, ref, anyPlatform())
}

// ImageFor finds the variant of a platform, as in "linux/arm64"; empty: the best that is here.
func (s *Store) ImageFor(ctx context.Context, ref, platform string) (Image, error) {
	if platform == "" {
		return s.Image(ctx, ref)
	}
	p, err := platformOf(platform)
	if err != nil {
		return Image{}, err
	}
	image, err := s.find(ctx, ref, platforms.OnlyStrict(p))
	if errdefs.IsNotFound(err) {
		return image, fault.NotFound("image with reference %s was found but does not provide the specified platform (%s)", ref, platforms.FormatAll(p))
	}
	return image, err
}

func (s *Store) find(ctx context.Context, ref string, want platforms.MatchComparer) (Image, error) {
	if name, err := normal(ref); err == nil {
		record, err := s.records().Get(ctx, name)
		if err == nil {
			return s.pointed(ctx, record.Target, want)
		}
		if !errdefs.IsNotFound(err) {
			return Image{}, fmt.Errorf("look up image %s: %w", ref, err)
		}
	}
	return s.byDigest(ctx, ref, want)
}

// pointed is the image of a target, with all its names.
func (s *Store) pointed(ctx context.Context, target ocispec.Descriptor, want platforms.MatchComparer) (Image, error) {
	records, err := s.records().List(ctx, "target.digest=="+target.Digest.String())
	if err != nil {
		return Image{}, fmt.Errorf("look up image %s: %w", target.Digest, err)
	}
	return s.load(ctx, target, records, want)
}

// byDigest accepts "name@sha256:…", "sha256:…" and the first digits of an ID.
func (s *Store) byDigest(ctx context.Context, ref string, want platforms.MatchComparer) (Image, error) {
	hex := ref
	if _, after, ok := strings.Cut(ref, "@"); ok {
		hex = after
	}
	hex = strings.TrimPrefix(hex, "sha256:")
	if hex == "" || strings.Trim(hex, "0123456789abcdef") != "" {
		return Image{}, missing(ref)
	}
	if len(hex) == 64 {
		records, err := s.records().List(ctx, "target.digest==sha256:"+hex)
		if err != nil {
			return Image{}, fmt.Errorf("look up image %s: %w", ref, err)
		}
		if len(records) > 0 {
			return s.load(ctx, records[0].Target, records, want)
		}
	}
	return s.byPrefix(ctx, ref, hex, want)
}

func (s *Store) byPrefix(ctx context.Context, ref, hex string, want platforms.MatchComparer) (Image, error) {
	byTarget, err := s.byTarget(ctx)
	if err != nil {
		return Image{}, err
	}
	var found [][]images.Image
	for target, records := range byTarget {
		id, err := s.id(ctx, records[0].Target)
		if err != nil && !errdefs.IsNotFound(err) {
			return Image{}, err
		}
		if strings.HasPrefix(id, "sha256:"+hex) || strings.HasPrefix(target.String(), "sha256:"+hex) {
			found = append(found, records)
		}
	}
	switch len(found) {
	case 0:
		return Image{}, missing(ref)
	case 1:
		return s.load(ctx, found[0][0].Target, found[0], want)
	}
	return Image{}, fault.Invalid("%s is the beginning of %d images", ref, len(found)).Try("write more of it")
}

// id is that of the image which target points at. A manifest always says the same; what an
// index means depends on which variants are here.
func (s *Store) id(ctx context.Context, target ocispec.Descriptor) (string, error) {
	if id, ok := s.ids.Load(target.Digest); ok {
		return id.(string), nil
	}
	best, err := s.variant(ctx, target, anyPlatform())
	if err != nil {
		return "", err
	}
	id := best.manifest.Config.Digest.String()
	if images.IsManifestType(target.MediaType) {
		s.ids.Store(target.Digest, id)
	}
	return id, nil
}

// byTarget are all records, those of an image together.
func (s *Store) byTarget(ctx context.Context) (map[digest.Digest][]images.Image, error) {
	records, err := s.records().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	all := map[digest.Digest][]images.Image{}
	for _, record := range records {
		all[record.Target.Digest] = append(all[record.Target.Digest], record)
	}
	return all, nil
}

// missing is said in Docker's words, for scripts look for them.
func missing(ref string) error {
	if full, err := normal(ref); err == nil && !strings.HasPrefix(ref, "sha256:") {
		ref = familiar(full)
	}
	return fault.NotFound("No such image: %s", ref)
}

// Images lists all, the newest first.
func (s *Store) Images(ctx context.Context) ([]Image, error) {
	byTarget, err := s.byTarget(ctx)
	if err != nil {
		return nil, err
	}
	s.ids.Range(func(target, _ any) bool {
		if byTarget[target.(digest.Digest)] == nil {
			s.ids.Delete(target)
		}
		return true
	})
	all := make([]Image, 0, len(byTarget))
	for _, records := range byTarget {
		image, err := s.load(ctx, records[0].Target, records, anyPlatform())
		if errdefs.IsNotFound(err) {
			continue // an artifact that is no image, or removed this moment
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

// load reads what an image says of itself.
func (s *Store) load(ctx context.Context, target ocispec.Descriptor, records []images.Image, want platforms.MatchComparer) (Image, error) {
	found, err := s.variant(ctx, target, want)
	if err != nil {
		return Image{}, err
	}
	raw, file, err := s.configuration(ctx, found.manifest.Config)
	if err != nil {
		return Image{}, fmt.Errorf("read the configuration of image %s: %w", target.Digest, err)
	}
	image := Image{
		ID: found.manifest.Config.Digest.String(), Digest: target.Digest.String(), Target: target, Manifest: found.Descriptor,
		Config: configOf(file), Platform: file.Platform, Raw: raw,
	}
	image.Created = image.Config.Created
	if n := len(file.History); n > 0 {
		image.Comment = file.History[n-1].Comment
	}
	for _, layer := range found.manifest.Layers {
		image.Size += layer.Size
	}
	for _, id := range file.RootFS.DiffIDs {
		image.Layers = append(image.Layers, id.String())
	}
	if len(file.RootFS.DiffIDs) > 0 {
		image.Chain = identity.ChainID(file.RootFS.DiffIDs).String()
	}
	image.Names, image.Digests, image.Tagged = called(records)
	return image, nil
}

func (s *Store) configuration(ctx context.Context, desc ocispec.Descriptor) ([]byte, configFile, error) {
	var file configFile
	raw, err := content.ReadBlob(ctx, s.store.Content(), desc)
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	return raw, file, err
}

func (s *Store) records() images.Store { return s.store.Client.ImageService() }
