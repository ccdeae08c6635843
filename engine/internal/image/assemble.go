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

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// A Layer is a tar stream that is laid over those before it.
type Layer struct {
	// Key names the content for whoever gives it: equal keys promise equal bytes, and a layer
	// whose key is known is not opened. Empty: always read.
	Key  string
	Open func() (io.ReadCloser, error)
}

// Assemble makes an image of base, empty for none, and layers, and names it ref. Equal input
// gives equal digests. What cfg leaves empty is taken from base.
func (s *Store) Assemble(ctx context.Context, ref, base string, layers []Layer, cfg Config) (Image, error) {
	name, err := nameOf(ref)
	if err != nil {
		return Image{}, err
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer done()
	var parts []ocispec.Descriptor
	var diffIDs []digest.Digest
	if base != "" {
		below, err := s.Image(ctx, base)
		if err != nil {
			return Image{}, err
		}
		if parts, diffIDs, err = s.layers(ctx, below); err != nil {
			return Image{}, err
		}
		cfg = cfg.over(below.Config)
	}
	for _, layer := range layers {
		part, err := s.layer(ctx, layer)
		if err != nil {
			return Image{}, full(err, "keep a layer of image "+ref)
		}
		parts, diffIDs = append(parts, part), append(diffIDs, part.Digest)
	}
	target, err := s.write(ctx, parts, newConfigFile(cfg, diffIDs))
	if err != nil {
		return Image{}, full(err, "keep image "+ref)
	}
	if err := s.unpack(ctx, name, target); err != nil {
		return Image{}, err
	}
	if err := s.name(ctx, name, target); err != nil {
		return Image{}, err
	}
	return s.load(ctx, target, []string{name})
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

// layers are those of an image that is here.
func (s *Store) layers(ctx context.Context, image Image) ([]ocispec.Descriptor, []digest.Digest, error) {
	target, err := s.target(ctx, image)
	if err != nil {
		return nil, nil, err
	}
	manifest, err := images.Manifest(ctx, s.store.Content(), target, platforms.Default())
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifest of image %s: %w", image.ID, err)
	}
	raw, err := content.ReadBlob(ctx, s.store.Content(), manifest.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration of image %s: %w", image.ID, err)
	}
	var file configFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, nil, fmt.Errorf("read the configuration of image %s: %w", image.ID, err)
	}
	return manifest.Layers, file.RootFS.DiffIDs, nil
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

// unpack makes the snapshots of an image, those that are not there yet.
func (s *Store) unpack(ctx context.Context, name string, target ocispec.Descriptor) error {
	fresh, err := s.missing(ctx, target)
	if err != nil {
		return full(err, "unpack image "+familiar(name))
	}
	extract := func() error {
		return client.NewImage(s.store.Client, images.Image{Name: name, Target: target}).Unpack(ctx, s.store.Snapshotter)
	}
	if len(fresh) == 0 {
		err = extract()
	} else {
		err = s.marks.guard(target, fresh, extract)
		s.settle()
	}
	if err == nil {
		return nil
	}
	// A broken extract may be large, and the disk may be full of it.
	if cerr := s.store.Collect(context.WithoutCancel(ctx)); cerr != nil {
		s.log.Error("the rest of an image that could not be unpacked stays on the disk", "err", cerr)
	}
	return full(err, "unpack image "+familiar(name))
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
