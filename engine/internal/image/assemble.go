package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// A Layer is a tar stream that is laid over those before it.
type Layer struct {
	// Key names the content for whoever gives it: equal keys promise equal bytes, and a layer
	// whose key is known is not opened. Empty: always read.
	Key     string
	Open    func() (io.ReadCloser, error)
	By      string // what made it, for the history
	Comment string
}

// A Recipe says what an image is made of.
type Recipe struct {
	Name     string // empty: it stays without one
	Base     string // the image below; empty: none
	Layers   []Layer
	Config   Config // what it leaves empty is the base's word
	Whole    bool   // nothing of the base's configuration is taken
	Platform string // of an image without a base; empty: this machine's
}

// Assemble makes an image of base, empty for none, and layers, and names it ref. Equal input
// gives equal digests. What cfg leaves empty is taken from base.
func (s *Store) Assemble(ctx context.Context, ref, base string, layers []Layer, cfg Config) (Image, error) {
	return s.Make(ctx, Recipe{Name: ref, Base: base, Layers: layers, Config: cfg})
}

// Make makes an image. Equal recipes give equal digests.
func (s *Store) Make(ctx context.Context, r Recipe) (Image, error) {
	name, err := nameOf(r.Name)
	if err != nil {
		return Image{}, err
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer done()
	p, err := s.begin(ctx, r)
	if err != nil {
		return Image{}, err
	}
	for _, layer := range r.Layers {
		if err := s.put(ctx, &p, layer); err != nil {
			return Image{}, full(err, "keep a layer of image "+r.Name)
		}
	}
	target, err := s.write(ctx, p.layers, newConfigFile(p.config, p.platform, p.diffIDs, p.history))
	if err != nil {
		return Image{}, full(err, "keep image "+r.Name)
	}
	if err := s.unpack(ctx, name, target, nil); err != nil {
		return Image{}, err
	}
	if err := s.name(ctx, name, target); err != nil {
		return Image{}, err
	}
	return s.pointed(ctx, target, anyPlatform())
}

// parts of an image that is being made.
type parts struct {
	config   Config
	platform ocispec.Platform
	layers   []ocispec.Descriptor
	diffIDs  []digest.Digest
	history  []ocispec.History
}

// begin takes what the base has.
func (s *Store) begin(ctx context.Context, r Recipe) (parts, error) {
	platform, err := platformOf(r.Platform)
	p := parts{config: r.Config, platform: platform}
	if err != nil || r.Base == "" {
		return p, err
	}
	below, err := s.Image(ctx, r.Base)
	if err != nil {
		return p, err
	}
	found, err := s.variant(ctx, below.Manifest, anyPlatform())
	if err != nil {
		return p, err
	}
	_, file, err := s.configuration(ctx, found.manifest.Config)
	if err != nil {
		return p, fmt.Errorf("read the configuration of image %s: %w", below.ID, err)
	}
	p.platform, p.layers, p.diffIDs, p.history = file.Platform, found.manifest.Layers, file.RootFS.DiffIDs, told(file)
	if !r.Whole {
		p.config = r.Config.over(below.Config)
	}
	return p, nil
}

// put adds a layer on top.
func (s *Store) put(ctx context.Context, p *parts, l Layer) error {
	part, err := s.layer(ctx, l)
	if err != nil {
		return err
	}
	created := whenMade(p.config)
	p.layers, p.diffIDs = append(p.layers, part), append(p.diffIDs, part.Digest)
	p.history = append(p.history, ocispec.History{Created: &created, CreatedBy: l.By, Author: p.config.Author, Comment: l.Comment})
	return nil
}

// lease keeps what a call writes from being collected before it is named.
func (s *Store) lease(ctx context.Context) (context.Context, func(), error) {
	held, release, err := s.store.Client.WithLease(s.store.Context(ctx))
	if err != nil {
		return nil, nil, full(err, "begin an image")
	}
	return held, func() {
		// The lease goes even when the caller has gone; it would end by itself in a day.
		if err := release(context.WithoutCancel(held)); err != nil {
			s.log.Error("a lease on an image could not be ended; it ends tomorrow", "err", err)
		}
	}, nil
}

// layer keeps a tar stream as it is, so that its digest is also the one of its content.
func (s *Store) layer(ctx context.Context, l Layer) (ocispec.Descriptor, error) {
	if known, ok := s.known(ctx, l.Key); ok {
		return known, nil
	}
	r, err := l.Open()
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("open a layer: %w", err)
	}
	defer r.Close()
	w, err := s.store.Content().Writer(ctx, content.WithRef("layer-"+randomID()))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Close()
	size, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 1<<20))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: size}
	err = w.Commit(ctx, size, desc.Digest, content.WithLabels(map[string]string{uncompressed: desc.Digest.String()}))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, err
	}
	return desc, s.keys.put(l.Key, desc)
}

const uncompressed = "containerd.io/uncompressed"

// known is the layer of a key, if its bytes are still here; from then on the lease holds them.
func (s *Store) known(ctx context.Context, key string) (ocispec.Descriptor, bool) {
	desc, ok := s.keys.get(key)
	if !ok {
		return desc, false
	}
	if id, ok := leases.FromContext(ctx); ok {
		resource := leases.Resource{ID: desc.Digest.String(), Type: "content"}
		if err := s.store.Client.LeasesService().AddResource(ctx, leases.Lease{ID: id}, resource); err != nil {
			return desc, false
		}
	}
	info, err := s.store.Content().Info(ctx, desc.Digest)
	return desc, err == nil && info.Size == desc.Size
}

// write keeps the configuration and the manifest of an image.
func (s *Store) write(ctx context.Context, layers []ocispec.Descriptor, file configFile) (ocispec.Descriptor, error) {
	config, err := s.blob(ctx, ocispec.MediaTypeImageConfig, file, nil)
	if err != nil {
		return config, err
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: append([]ocispec.Descriptor{}, layers...),
	}
	// The collector follows these labels from the name to the bytes.
	refs := map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}
	for i, layer := range layers {
		refs["containerd.io/gc.ref.content.l."+strconv.Itoa(i)] = layer.Digest.String()
	}
	return s.blob(ctx, ocispec.MediaTypeImageManifest, manifest, refs)
}

func (s *Store) blob(ctx context.Context, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	err = content.WriteBlob(ctx, s.store.Content(), "blob-"+desc.Digest.String(), bytes.NewReader(raw), desc, content.WithLabels(labels))
	return desc, err
}

// full turns a full disk into words for the user, wrapped or not.
func full(err error, doing string) error {
	if _, ok := fault.Of(err); ok {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Full("there is no room on the disk to %s", doing).Try("remove images that nobody needs, or give the data directory more room")
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// keys remember which bytes a layer's key stands for: a small file for each. They are a
// cache: one that is lost or old costs reading the layer again.
type keys struct{ dir string }

func (k keys) path(key string) string {
	return filepath.Join(k.dir, digest.FromString(key).Encoded())
}

func (k keys) get(key string) (ocispec.Descriptor, bool) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}
	if key == "" {
		return desc, false
	}
	raw, err := os.ReadFile(k.path(key))
	if err != nil {
		return desc, false
	}
	name, size, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	desc.Digest = digest.Digest(name)
	desc.Size, err = strconv.ParseInt(size, 10, 64)
	return desc, err == nil && desc.Digest.Validate() == nil
}

func (k keys) put(key string, desc ocispec.Descriptor) error {
	if key == "" {
		return nil
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	temp := k.path(key) + "." + randomID()
	if err := os.WriteFile(temp, fmt.Appendf(nil, "%s %d\n", desc.Digest, desc.Size), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, k.path(key))
}
