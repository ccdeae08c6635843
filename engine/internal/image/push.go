package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"sampan.dev/sampan/internal/fault"
)

// PushOptions say what is pushed.
type PushOptions struct {
	Platform string // one variant only
	Auth     *Auth
	All      bool // every tag of the repository that is here
}

// Push sends an image to the registry that its name says. What the registry has, in this
// repository or in one that an image came from, is not sent again.
func (s *Store) Push(ctx context.Context, ref string, o PushOptions, progress func(Progress)) error {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return fault.Invalid("%q is not the name of an image: %w", ref, err)
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	progress(Progress{Status: fmt.Sprintf("The push refers to repository [%s]", named.Name())})
	all := []reference.Named{named}
	if o.All {
		if all, err = s.tagged(ctx, named.Name()); err != nil {
			return err
		}
	}
	for _, one := range all {
		if err := s.push(ctx, one, o, progress); err != nil {
			return err
		}
	}
	return nil
}

// tagged lists the names that a repository has here.
func (s *Store) tagged(ctx context.Context, repo string) ([]reference.Named, error) {
	records, err := s.records().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var all []reference.Named
	for _, record := range records {
		named, err := reference.ParseNamed(record.Name)
		if err != nil || named.Name() != repo {
			continue
		}
		if _, ok := named.(reference.Tagged); ok {
			all = append(all, named)
		}
	}
	if len(all) == 0 {
		return nil, fault.NotFound("An image does not exist locally with the tag: %s", familiar(repo))
	}
	return all, nil
}

func (s *Store) push(ctx context.Context, named reference.Named, o PushOptions, progress func(Progress)) error {
	record, err := s.records().Get(ctx, named.String())
	if err != nil {
		return fault.NotFound("tag does not exist: %s", reference.FamiliarString(named))
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return err
	}
	defer done()
	target, err := s.sendable(ctx, record.Target, o.Platform)
	if err != nil {
		return err
	}
	if err := s.hold(ctx, target); err != nil {
		return err
	}
	if err := s.send(ctx, named, target, newRemote(o.Auth), progress); err != nil {
		return pushFault(named, err)
	}
	s.remember(ctx, named, target)
	if _, ok := named.(reference.Tagged); !ok {
		return nil
	}
	tag := tagOf(named)
	progress(Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, target.Digest, target.Size)})
	progress(Progress{Pushed: &Pushed{Tag: tag, Digest: target.Digest.String(), Size: target.Size}})
	return nil
}

// sendable is the whole image, or the best variant when not all are here.
func (s *Store) sendable(ctx context.Context, target ocispec.Descriptor, platform string) (ocispec.Descriptor, error) {
	want, err := wanted(platform)
	if err != nil {
		return target, err
	}
	if platform == "" {
		if ok, err := s.complete(ctx, target); err != nil || ok {
			return target, err
		}
	}
	best, err := s.variant(ctx, target, want)
	if err != nil {
		return target, fault.NotFound("the image has no variant for %s here: %w", platform, err)
	}
	best.Descriptor.Platform = nil
	return best.Descriptor, nil
}

// hold keeps an image from the collector as long as the lease of ctx does.
func (s *Store) hold(ctx context.Context, target ocispec.Descriptor) error {
	id, ok := leases.FromContext(ctx)
	if !ok {
		return nil
	}
	resource := leases.Resource{ID: target.Digest.String(), Type: "content"}
	if err := s.store.Client.LeasesService().AddResource(ctx, leases.Lease{ID: id}, resource); err != nil {
		return fmt.Errorf("hold image %s: %w", target.Digest, err)
	}
	return nil
}

func (s *Store) send(ctx context.Context, named reference.Named, target ocispec.Descriptor, to remote, progress func(Progress)) error {
	// With the digest beside the tag, the tag is set for this manifest, and not for those below.
	ref := named
	if _, ok := named.(reference.Digested); !ok {
		var err error
		if ref, err = reference.WithDigest(named, target.Digest); err != nil {
			return err
		}
	}
	pusher, err := to.resolver.Pusher(ctx, ref.String())
	if err != nil {
		return err
	}
	sent := &sending{tracker: to.tracker, report: progress, said: map[digest.Digest]string{}}
	stop := sent.run(ctx)
	defer stop()
	return remotes.PushContent(ctx, pusher, target, s.store.Content(), semaphore.NewWeighted(atOnce), platforms.All, sent.wrap)
}

// remember notes where the blobs are now, so that they can be mounted from there.
func (s *Store) remember(ctx context.Context, named reference.Named, target ocispec.Descriptor) {
	label, err := docker.AppendDistributionSourceLabel(s.store.Content(), named.String())
	if err == nil {
		err = images.Walk(ctx, images.Handlers(images.ChildrenHandler(s.store.Content()), label), target)
	}
	if err != nil {
		s.log.Warn("where an image was pushed to is not remembered; its layers will be sent again", "image", named.String(), "err", err)
	}
}

func pushFault(named reference.Named, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case denied(err) && wrongPassword(err):
		return fault.SignIn("unauthorized: incorrect username or password")
	case denied(err):
		return fault.Forbidden("push access denied for %s, repository does not exist or may require 'docker login'", reference.FamiliarName(named))
	}
	return remoteFault(reference.Domain(named), "push image "+reference.FamiliarString(named), err)
}

// sending tells how far the layers of a push are.
type sending struct {
	tracker docker.StatusTracker
	report  func(Progress)

	mu     sync.Mutex
	layers []ocispec.Descriptor

	said map[digest.Digest]string // of the goroutine that reports
}

func (s *sending) wrap(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h.Handle(ctx, desc)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, child := range children {
			if images.IsLayerType(child.MediaType) {
				s.layers = append(s.layers, child)
			}
		}
		return children, err
	})
}

// run reports until stop is called, which reports once more.
func (s *sending) run(ctx context.Context) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				s.each(ctx)
				return
			case <-tick.C:
				s.each(ctx)
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (s *sending) each(ctx context.Context) {
	s.mu.Lock()
	layers := s.layers
	s.mu.Unlock()
	for _, layer := range layers {
		p := s.progress(ctx, layer)
		if said := s.said[layer.Digest]; said == p.Status && p.Status != "Pushing" {
			continue
		}
		s.said[layer.Digest] = p.Status
		s.report(p)
	}
}

func (s *sending) progress(ctx context.Context, layer ocispec.Descriptor) Progress {
	p := Progress{ID: short(layer.Digest), Status: "Preparing"}
	status, err := s.tracker.GetStatus(remotes.MakeRefKey(ctx, layer))
	switch {
	case err != nil && s.said[layer.Digest] == "":
	case err != nil:
		p.Status = "Waiting"
	case status.MountedFrom != "":
		p.Status = "Mounted from " + mountedFrom(status.MountedFrom)
	case status.Exists:
		p.Status = "Layer already exists"
	case status.Committed:
		p.Status = "Pushed"
	default:
		p.Status, p.Done, p.Total = "Pushing", status.Offset, status.Total
	}
	return p
}

func mountedFrom(full string) string {
	named, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return full
	}
	return reference.Path(named)
}
