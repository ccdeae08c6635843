package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// untagged is the repository of images that came without a name.
const untagged = "localhost/imported"

// Import takes a tar file of images, in Docker's format or an OCI layout, plain or compressed.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	tar, err := compression.DecompressStream(r)
	if err != nil {
		return nil, fault.Invalid("this is not a tar file of images: %w", err)
	}
	defer tar.Close()
	index, err := archive.ImportIndex(ctx, s.store.Content(), tar)
	if err != nil {
		if out := full(err, "import images"); fault.Is(out, fault.KindFull) || ctx.Err() != nil {
			return nil, out
		}
		return nil, fault.Invalid("this is not a tar file of images: %w", err).Try("make one with docker save, or skopeo copy to oci-archive:")
	}
	return s.adopt(ctx, index)
}

// adopt unpacks and names what an index lists, for this platform.
func (s *Store) adopt(ctx context.Context, index ocispec.Descriptor) ([]Image, error) {
	blobs := s.store.Content()
	listed, err := images.Children(ctx, blobs, index)
	if err != nil {
		return nil, fmt.Errorf("read the index of the imported images: %w", err)
	}
	var all []Image
	for _, target := range listed {
		handler := images.FilterPlatforms(images.ChildrenHandler(blobs), platforms.Default())
		err := images.Walk(ctx, images.SetChildrenLabels(blobs, handler), target)
		if err != nil {
			return nil, fault.Invalid("an image in the file is incomplete: %w", err)
		}
		name, err := nameOf(target.Annotations[images.AnnotationImageName])
		if err != nil {
			name = untagged + "@" + target.Digest.String()
		}
		target.Annotations = nil
		if err := s.unpack(ctx, name, target); err != nil {
			return nil, err
		}
		if err := s.name(ctx, name, target); err != nil {
			return nil, err
		}
		image, err := s.load(ctx, target, []string{name})
		if err != nil {
			return nil, err
		}
		all = append(all, image)
	}
	return all, nil
}

// Progress of a pull.
type Progress struct {
	Ref    string // what is being fetched
	Status string // "resolving", "downloading", "unpacking", "done"
	Done   int64  // bytes
	Total  int64  // bytes; zero: not known
}

// Pull fetches an image from the registry that its name says.
func (s *Store) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return Image{}, fault.Invalid("%q is not the name of an image: %w", ref, err)
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer done()
	progress(Progress{Ref: ref, Status: "resolving"})
	fetched, err := s.fetch(ctx, named, ref, progress)
	if err != nil {
		return Image{}, err
	}
	progress(Progress{Ref: ref, Status: "unpacking"})
	if err := s.unpack(ctx, fetched.Name, fetched.Target); err != nil {
		return Image{}, err
	}
	progress(Progress{Ref: ref, Status: "done"})
	return s.load(ctx, fetched.Target, []string{named.String()})
}

// fetch brings the blobs of an image and moves its name to it.
func (s *Store) fetch(ctx context.Context, named reference.Named, ref string, progress func(Progress)) (images.Image, error) {
	old, olderr := s.records().Get(ctx, named.String())
	stop := s.watch(ctx, ref, progress)
	fetched, err := s.store.Client.Fetch(ctx, named.String(), client.WithResolver(resolver()), client.WithPlatform(platforms.DefaultString()))
	stop()
	if err != nil {
		return images.Image{}, pullFault(named, err)
	}
	if olderr == nil && old.Target.Digest != fetched.Target.Digest {
		return fetched, s.keep(ctx, old)
	}
	return fetched, nil
}

// watch tells how far the blobs being written are, until stop is called.
func (s *Store) watch(ctx context.Context, ref string, progress func(Progress)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			statuses, err := s.store.Content().ListStatuses(ctx)
			if err != nil || len(statuses) == 0 {
				continue
			}
			p := Progress{Ref: ref, Status: "downloading"}
			for _, status := range statuses {
				p.Done, p.Total = p.Done+status.Offset, p.Total+status.Total
			}
			progress(p)
		}
	}()
	return func() { cancel(); <-ended }
}

// resolver gives up soon where no registry answers, as behind a firewall that drops.
func resolver() remotes.Resolver {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	transport.ResponseHeaderTimeout = time.Minute
	hc := &http.Client{Transport: transport}
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithClient(hc),
		docker.WithPlainHTTP(docker.MatchLocalhost),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(hc))),
	)})
}

func pullFault(named reference.Named, err error) error {
	name, host := reference.FamiliarString(named), reference.Domain(named)
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errdefs.IsNotFound(err):
		return fault.NotFound("%s has no image %s", host, name).Try("check the name and the tag")
	case strings.Contains(err.Error(), "authorization failed"), errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return fault.NotFound("%s has no image %s, or it is private", host, name)
	case errors.As(err, &network):
		return fault.Unavailable("the registry %s does not answer: %w", host, err).
			Try("import the image from a file instead, or check this machine's way to the internet")
	}
	return full(err, "fetch image "+name)
}

// randomID makes a reference that no other write has.
func randomID() string { return rand.Text() }
