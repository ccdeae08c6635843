package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

type (
	// An Image that can be run.
	Image = image.Image
	// An ImageConfig is what an image says about the containers made from it.
	ImageConfig = image.Config
	// A Layer is a tar stream that is laid over those before it.
	Layer = image.Layer
	// A Recipe says what an image is made of.
	Recipe = image.Recipe
	// Progress of a pull, a push or a load.
	Progress = image.Progress
	// Pushed is the end of a push.
	Pushed = image.Pushed
	// Health is a command that is run in a container to see whether it works.
	Health = image.Health
	// RegistryAuth is who somebody is to a registry.
	RegistryAuth = image.Auth
	// PullOptions say what is pulled.
	PullOptions = image.PullOptions
	// PushOptions say what is pushed.
	PushOptions = image.PushOptions
	// LoadedImage is one that came in a file, with its name there.
	LoadedImage = image.Loaded
	// A FlatImage is to be made of the files of a root file system.
	FlatImage = image.Flat
	// An ImageStep is one in the making of an image.
	ImageStep = image.Step
	// An ImageVariant is what an image is for one platform.
	ImageVariant = image.Variant
	// An ImageUsage is what an image takes on the disk.
	ImageUsage = image.Usage
)

// ApplyChanges does to cfg what instructions of a Dockerfile say, those that need no build.
func ApplyChanges(cfg *ImageConfig, changes []string) error { return image.ApplyChanges(cfg, changes) }

// Image finds one by name, digest or the beginning of its ID.
func (e *Engine) Image(ctx context.Context, ref string) (Image, error) {
	return e.images.Image(ctx, ref)
}

// ImageFor finds the variant of a platform, as in "linux/arm64".
func (e *Engine) ImageFor(ctx context.Context, ref, platform string) (Image, error) {
	return e.images.ImageFor(ctx, ref, platform)
}

// Images lists all, the newest first.
func (e *Engine) Images(ctx context.Context) ([]Image, error) { return e.images.Images(ctx) }

// ImageVariants lists the platforms of an image, and what of each is here.
func (e *Engine) ImageVariants(ctx context.Context, i Image) ([]ImageVariant, error) {
	return e.images.Variants(ctx, i)
}

// ImageUsages measures images, what they share among them, and what all take together.
func (e *Engine) ImageUsages(ctx context.Context, all []Image) ([]ImageUsage, int64, error) {
	return e.images.Usages(ctx, all)
}

// ImageUsers lists the containers of each image, by the image's ID.
func (e *Engine) ImageUsers(ctx context.Context) map[string][]string {
	users := map[string][]string{}
	for _, r := range e.all() {
		users[r.Image] = append(users[r.Image], r.ID)
	}
	return users
}

// History tells how an image was made, the last step first.
func (e *Engine) History(ctx context.Context, ref, platform string) (Image, []ImageStep, error) {
	return e.images.History(ctx, ref, platform)
}

// Pull fetches an image from the registry that its name says.
func (e *Engine) Pull(ctx context.Context, ref string, o PullOptions, progress func(Progress)) (Image, error) {
	i, err := e.images.Pull(ctx, ref, o, progress)
	return i, e.tellImage(err, "pull", ref, ref, i.Config.Labels)
}

// Push sends an image to the registry that its name says.
func (e *Engine) Push(ctx context.Context, ref string, o PushOptions, progress func(Progress)) error {
	return e.tellImage(e.images.Push(ctx, ref, o, progress), "push", ref, ref, nil)
}

// RemoteImage asks a registry about an image: what its name points at, and its platforms.
func (e *Engine) RemoteImage(ctx context.Context, ref string, auth *RegistryAuth) (ocispec.Descriptor, []ocispec.Platform, error) {
	return e.images.Remote(ctx, ref, auth)
}

// SignIn asks a registry whether it knows somebody.
func (e *Engine) SignIn(ctx context.Context, auth RegistryAuth) error {
	return e.images.SignIn(ctx, auth)
}

// Import takes a tar file of images, in Docker's format or an OCI layout, plain or compressed.
func (e *Engine) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	loaded, err := e.Load(ctx, r, "", nil)
	all := make([]Image, len(loaded))
	for i, one := range loaded {
		all[i] = one.Image
	}
	return all, err
}

// Load does what Import does, for a platform, and tells how far it is.
func (e *Engine) Load(ctx context.Context, r io.Reader, platform string, progress func(Progress)) ([]LoadedImage, error) {
	all, err := e.images.Load(ctx, r, platform, progress)
	for _, i := range all {
		_ = e.tellImage(nil, "load", i.ID, i.ID, i.Config.Labels)
	}
	return all, err
}

// Save writes images as a tar file that readers of Docker's format and of OCI layouts know. A
// repository without a tag stands for all its tags.
func (e *Engine) Save(ctx context.Context, refs []string, platform string, w io.Writer) error {
	all, err := e.images.Save(ctx, refs, platform, w)
	for _, i := range all {
		_ = e.tellImage(nil, "save", i.ID, i.ID, i.Config.Labels)
	}
	return err
}

// ImportTar makes an image of one layer from the tar file of a root file system.
func (e *Engine) ImportTar(ctx context.Context, r io.Reader, f FlatImage) (Image, error) {
	i, err := e.images.ImportTar(ctx, r, f)
	return i, e.tellImage(err, "import", i.ID, i.ID, i.Config.Labels)
}

// Tag gives an image a further name. If the name was another image's, that one stays and is
// found by its digest.
func (e *Engine) Tag(ctx context.Context, ref, name string) error {
	i, err := e.images.Image(ctx, ref)
	if err == nil {
		err = e.images.Tag(ctx, ref, name)
	}
	return e.tellImage(err, "tag", i.ID, name, i.Config.Labels)
}

// Assemble makes an image of base, "" for an empty one, and layers, and names it ref. Equal
// input gives equal digests. What cfg leaves empty is base's word.
func (e *Engine) Assemble(ctx context.Context, ref, base string, layers []Layer, cfg ImageConfig) (Image, error) {
	return e.Make(ctx, Recipe{Name: ref, Base: base, Layers: layers, Config: cfg})
}

// Make makes an image. Equal recipes give equal digests.
func (e *Engine) Make(ctx context.Context, r Recipe) (Image, error) {
	i, err := e.images.Make(ctx, r)
	return i, e.tellImage(err, "build", i.ID, r.Name, i.Config.Labels)
}

// A RemovedImage is a name that an image lost, or an image that is gone.
type RemovedImage struct {
	Untagged string
	Deleted  string // its ID
}

// Built takes an image that BuildKit has put into the stores, and gives it its names.
func (e *Engine) Built(ctx context.Context, target ocispec.Descriptor, names []string) (Image, error) {
	i, err := e.images.Built(ctx, target, names)
	return i, e.tell(err, "image", "build", i.ID, strings.Join(names, ","))
}

// RemoveImage takes a name away, those of a repository for NAME@DIGEST, or all names when ref
// is an ID. The bytes go with the last name. An image that a container uses stays: with force
// it loses its names; deleted it is only by its ID, with force, when the container is stopped.
func (e *Engine) RemoveImage(ctx context.Context, ref string, force bool) ([]RemovedImage, error) {
	r, err := e.images.Removal(ctx, ref)
	if err != nil {
		return nil, err
	}
	keep := false
	if r.Last {
		if keep, err = e.mayRemove(ctx, r, ref, force); err != nil {
			return nil, err
		}
	}
	return e.removeImage(ctx, r, keep)
}

// mayRemove says, in Docker's words, why an image cannot go, or that only its names can.
func (e *Engine) mayRemove(ctx context.Context, r image.Removal, ref string, force bool) (keep bool, err error) {
	user, running, err := e.using(ctx, r.Image.ID)
	if err != nil {
		return false, err
	}
	id := brief(r.Image.ID)
	switch {
	case r.ByName && user != "" && force:
		return true, nil
	case r.ByName && user != "":
		return false, fault.Conflict("conflict: unable to delete %s (must be forced) - container %s is using its referenced image %s",
			familiar(ref), brief(user), id)
	case r.ByName:
		return false, nil
	case user != "" && running:
		return false, fault.Conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", id, brief(user))
	case force:
		return false, nil
	case user != "":
		return false, fault.Conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", id, brief(user))
	case len(r.Image.Names) > 1:
		return false, fault.Conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", id)
	}
	return false, nil
}

func (e *Engine) removeImage(ctx context.Context, r image.Removal, keep bool) ([]RemovedImage, error) {
	if err := e.images.Remove(ctx, r, keep); err != nil {
		return nil, err
	}
	var all []RemovedImage
	for _, name := range r.Names {
		all = append(all, RemovedImage{Untagged: name})
		_ = e.tellImage(nil, "untag", r.Image.ID, name, r.Image.Config.Labels)
	}
	if r.Last && !keep {
		all = append(all, RemovedImage{Deleted: r.Image.ID})
		_ = e.tellImage(nil, "delete", r.Image.ID, r.Image.ID, r.Image.Config.Labels)
	}
	return all, e.sweep(ctx)
}

// brief is an ID as people see it.
func brief(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// using names a container that is made from an image, one that runs before one that does not.
func (e *Engine) using(ctx context.Context, imageID string) (id string, running bool, err error) {
	users := e.ImageUsers(ctx)[imageID]
	for _, user := range users {
		c, err := e.Container(ctx, user)
		if fault.Is(err, fault.KindNotFound) {
			continue // removed this moment
		}
		if err != nil {
			return "", false, err
		}
		if active(supervisor.State(c.State)) {
			return user, true, nil
		}
		id = user
	}
	return id, false, nil
}

// PruneOptions say which images PruneImages removes.
type PruneOptions struct {
	All  bool             // those with names, too, as long as no container uses them
	Only func(Image) bool // nil: all of them
}

// PruneImages removes images that no container uses, and tells the bytes that this gave back.
func (e *Engine) PruneImages(ctx context.Context, o PruneOptions) ([]RemovedImage, int64, error) {
	all, err := e.images.Images(ctx)
	if err != nil {
		return nil, 0, err
	}
	users := e.ImageUsers(ctx)
	unused := slices.DeleteFunc(all, func(i Image) bool {
		return len(users[i.ID]) > 0 || !o.All && !i.Dangling() || o.Only != nil && !o.Only(i)
	})
	debris, err := e.images.Debris(ctx, unused)
	if err != nil {
		return nil, 0, err
	}
	var removed []RemovedImage
	for _, i := range unused {
		r, err := e.images.Removal(ctx, i.ID)
		if fault.Is(err, fault.KindNotFound) {
			continue // somebody was faster
		}
		if err != nil {
			return removed, 0, err
		}
		some, err := e.removeImage(ctx, r, false)
		removed = append(removed, some...)
		if err != nil {
			return removed, 0, err
		}
	}
	if err := e.store.Collect(ctx); err != nil {
		return removed, 0, fmt.Errorf("collect what no image needs: %w", err)
	}
	bytes, err := e.images.Reclaimed(ctx, debris)
	return removed, bytes, e.tell(err, "image", "prune", "", "", "reclaimed", strconv.FormatInt(bytes, 10))
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
		return used[chain] || slices.ContainsFunc(e.all(), func(r record) bool { return r.Chain == chain })
	})
}

// Mount shows an image's files in a directory, read-only, until release is called. The image
// must not be removed before that.
func (e *Engine) Mount(ctx context.Context, ref string) (dir string, release func() error, err error) {
	i, err := e.images.Image(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	return e.show(ctx, i.Chain)
}

// tellImage passes on err, or tells of what was done to an image.
func (e *Engine) tellImage(err error, action, id, name string, labels map[string]string) error {
	if err != nil {
		return err
	}
	attributes := map[string]string{}
	maps.Copy(attributes, labels)
	e.hub.send(Event{Type: "image", Action: action, ID: familiar(id), Name: familiar(name), Attributes: attributes})
	return nil
}

// familiar is the name of an image as people write it, with its tag.
func familiar(name string) string {
	named, err := reference.ParseDockerRef(name)
	if err != nil || strings.HasPrefix(name, "sha256:") {
		return name
	}
	return reference.FamiliarString(named)
}
