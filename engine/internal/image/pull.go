package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"sampan.dev/sampan/internal/fault"
)

// PullOptions say what is pulled.
type PullOptions struct {
	Platform string // as in "linux/arm64"; empty: this machine's
	Auth     *Auth
	All      bool // every tag of the repository; the last one is returned
}

// atOnce is how many layers of an image travel at a time.
const atOnce = 3

// Pull fetches an image from the registry that its name says.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions, progress func(Progress)) (Image, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return Image{}, fault.Invalid("%q is not the name of an image: %w", ref, err)
	}
	if named.Name() == "docker.io/library/scratch" {
		return Image{}, fault.Forbidden("'scratch' is a reserved name")
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	if !o.All {
		return s.pull(ctx, named, o, progress)
	}
	tags, err := newRemote(o.Auth).tags(ctx, named)
	if err != nil {
		return Image{}, pullFault(named, o.Platform, err)
	}
	var last Image
	for _, tag := range tags {
		tagged, err := reference.WithTag(reference.TrimNamed(named), tag)
		if err != nil {
			continue // a tag that nobody could ask for
		}
		if last, err = s.pull(ctx, tagged, o, progress); err != nil {
			return last, err
		}
	}
	return last, nil
}

func (s *Store) pull(ctx context.Context, named reference.Named, o PullOptions, progress func(Progress)) (Image, error) {
	platform, err := platformOf(o.Platform)
	if err != nil {
		return Image{}, err
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer done()
	m := newMeter(ctx, s.store.Content(), progress)
	target, err := s.fetch(ctx, named, newRemote(o.Auth).resolver, platform, m)
	if err == nil {
		err = s.arrive(ctx, named, target, o.Platform, m)
	}
	m.stop()
	if err != nil {
		return Image{}, pullFault(named, platforms.FormatAll(platform), err)
	}
	return s.finish(ctx, named, target, platform, progress)
}

// finish names what was fetched. Before that, nobody can find it half.
func (s *Store) finish(ctx context.Context, named reference.Named, target ocispec.Descriptor, platform ocispec.Platform, progress func(Progress)) (Image, error) {
	old, olderr := s.records().Get(ctx, named.String())
	if err := s.name(ctx, named.String(), target); err != nil {
		return Image{}, err
	}
	progress(Progress{Status: "Digest: " + target.Digest.String()})
	status := "Status: Downloaded newer image for "
	if olderr == nil && old.Target.Digest == target.Digest {
		status = "Status: Image is up to date for "
	}
	progress(Progress{Status: status + reference.FamiliarString(named)})
	image, err := s.pointed(ctx, target, platforms.Only(platform))
	if errdefs.IsNotFound(err) {
		return s.pointed(ctx, target, anyPlatform())
	}
	return image, err
}

// fetch brings the blobs of an image, those of one platform.
func (s *Store) fetch(ctx context.Context, named reference.Named, from remotes.Resolver, platform ocispec.Platform, m *meter) (ocispec.Descriptor, error) {
	name, target, err := from.Resolve(ctx, named.String())
	if err != nil {
		return target, err
	}
	fetcher, err := from.Fetcher(ctx, name)
	if err != nil {
		return target, err
	}
	origin, err := docker.AppendDistributionSourceLabel(s.store.Content(), named.String())
	if err != nil {
		return target, err
	}
	m.say(Progress{ID: tagOf(named), Status: "Pulling from " + reference.Path(named)})
	want := platforms.Only(platform)
	children := images.SetChildrenLabels(s.store.Content(), images.ChildrenHandler(s.store.Content()))
	children = images.LimitManifests(images.FilterPlatforms(children, want), want, 1)
	get := images.Handlers(remotes.FetchHandler(s.store.Content(), fetcher), m.expecting(children), origin)
	return target, images.Dispatch(ctx, images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if desc.MediaType == images.MediaTypeDockerSchema1Manifest {
			return nil, fault.Invalid("%s is in a format of the year 2013 that is not supported any more", reference.FamiliarString(named))
		}
		found, err := get.Handle(ctx, desc)
		if err == nil {
			m.fetched(desc)
		}
		return found, err
	}), semaphore.NewWeighted(atOnce), target)
}

func tagOf(named reference.Named) string {
	if tagged, ok := named.(reference.Tagged); ok {
		return tagged.Tag()
	}
	return reference.FamiliarString(named)
}

// arrive unpacks what was fetched, if it is what was asked for.
func (s *Store) arrive(ctx context.Context, named reference.Named, target ocispec.Descriptor, asked string, m *meter) error {
	want, err := wanted(asked)
	if err != nil {
		return err
	}
	if images.IsManifestType(target.MediaType) {
		want = anyPlatform() // there is no choice, and Docker takes it, too
	}
	best, err := s.variant(ctx, target, want)
	if errdefs.IsNotFound(err) && asked != "" {
		return fault.NotFound("image with reference %s was found but does not provide the specified platform (%s)", reference.FamiliarString(named), asked)
	}
	if errdefs.IsNotFound(err) {
		return fault.Invalid("%s is not the image of a container: %w", reference.FamiliarString(named), err)
	}
	if err != nil {
		return err
	}
	err = s.unpack(ctx, named.String(), best.Descriptor, func(layer rootfs.Layer, read int64, done bool) {
		m.extracting(layer.Blob, read, done)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("unpack what was fetched: %w", err)
	}
	return err
}

// wanted matches the platform that somebody asked for; an empty one prefers this machine's.
func wanted(asked string) (platforms.MatchComparer, error) {
	if asked == "" {
		return anyPlatform(), nil
	}
	platform, err := platformOf(asked)
	return platforms.Only(platform), err
}
