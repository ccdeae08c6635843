package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/internal/fault"
)

type (
	// An Image that can be run.
	Image = image.Image
	// An ImageConfig is what an image says about the containers made from it.
	ImageConfig = image.Config
	// A Layer is a tar stream that is laid over those before it.
	Layer = image.Layer
	// Progress of a pull.
	Progress = image.Progress
	// Health is a command that is run in a container to see whether it works.
	Health = image.Health
)

// Image finds one by name, digest or the beginning of its ID.
func (e *Engine) Image(ctx context.Context, ref string) (Image, error) {
	return e.images.Image(ctx, ref)
}

// Images lists all, the newest first.
func (e *Engine) Images(ctx context.Context) ([]Image, error) { return e.images.Images(ctx) }

// Pull fetches an image from the registry that its name says.
func (e *Engine) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	i, err := e.images.Pull(ctx, ref, progress)
	return i, e.tell(err, "image", "pull", i.ID, ref)
}

// Import takes a tar file of images, in Docker's format or an OCI layout, plain or compressed.
func (e *Engine) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	all, err := e.images.Import(ctx, r)
	for _, i := range all {
		_ = e.tell(nil, "image", "load", i.ID, i.ID)
	}
	return all, err
}

// Tag gives an image a further name. If the name was another image's, that one stays and is
// found by its digest.
func (e *Engine) Tag(ctx context.Context, ref, name string) error {
	return e.tell(e.images.Tag(ctx, ref, name), "image", "tag", ref, name)
}

// Assemble makes an image of base, "" for an empty one, and layers, and names it ref. Equal
// input gives equal digests. What cfg leaves empty is base's word.
func (e *Engine) Assemble(ctx context.Context, ref, base string, layers []Layer, cfg ImageConfig) (Image, error) {
	i, err := e.images.Assemble(ctx, ref, base, layers, cfg)
	return i, e.tell(err, "image", "build", i.ID, ref)
}

// RemoveImage takes a name away, those of a repository for NAME@DIGEST, or all names when ref
// is an ID. The bytes go with the last name, which a container holds.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	r, err := e.images.Removal(ctx, ref)
	if err != nil {
		return err
	}
	if c, ok := e.using(r.Image.ID); ok && r.Last {
		return fault.Conflict("container %s uses the image %s", c, ref).Try("remove the container first")
	}
	if err := e.images.Remove(ctx, r); err != nil {
		return err
	}
	return e.tell(e.sweep(ctx), "image", "delete", r.Image.ID, ref)
}

// using names a container that is made from an image.
func (e *Engine) using(imageID string) (string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.Image == imageID {
			return c.Name, true
		}
	}
	return "", false
}

// sweep lets go of layers that neither an image nor a container needs.
func (e *Engine) sweep(ctx context.Context) error {
	images, err := e.images.Images(ctx)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, i := range images {
		used[i.Chain] = true
	}
	return e.store.Sweep(ctx, func(chain string) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, c := range e.containers {
			if c.Chain == chain {
				return true
			}
		}
		return used[chain]
	})
}

// Mount shows an image's files in a directory, read-only, until release is called. The image
// must not be removed before that.
func (e *Engine) Mount(ctx context.Context, ref string) (dir string, release func() error, err error) {
	i, err := e.images.Image(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(e.path("run", "mounts"), 0o700); err != nil {
		return "", nil, fmt.Errorf("mount image %s: %w", ref, err)
	}
	if dir, err = os.MkdirTemp(e.path("run", "mounts"), "image"); err != nil {
		return "", nil, fmt.Errorf("mount image %s: %w", ref, err)
	}
	if err := e.store.Show(ctx, i.Chain, dir); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, func() error {
		if err := store.Unmount(dir); err != nil {
			return err
		}
		return os.Remove(dir)
	}, nil
}

// tell passes on err, or tells of what was done.
func (e *Engine) tell(err error, kind, action, id, name string) error {
	if err == nil {
		e.hub.send(Event{Type: kind, Action: action, ID: id, Name: name})
	}
	return err
}
