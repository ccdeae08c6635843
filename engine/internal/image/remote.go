package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan.dev/sampan/internal/fault"
)

// largest is what a manifest or a configuration may have.
const largest = 4 << 20

// Remote asks the registry about an image without fetching it: what its name points at, and
// the platforms it is for.
func (s *Store) Remote(ctx context.Context, ref string, auth *Auth) (ocispec.Descriptor, []ocispec.Platform, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ocispec.Descriptor{}, nil, fault.Invalid("%q is not the name of an image: %w", ref, err)
	}
	from := newRemote(auth).resolver
	name, target, err := from.Resolve(ctx, named.String())
	if err != nil {
		return target, nil, pullFault(named, "", err)
	}
	fetcher, err := from.Fetcher(ctx, name)
	if err != nil {
		return target, nil, pullFault(named, "", err)
	}
	all, err := remotePlatforms(ctx, fetcher, target)
	if err != nil {
		return target, nil, pullFault(named, "", err)
	}
	return target, all, nil
}

func remotePlatforms(ctx context.Context, from remotes.Fetcher, target ocispec.Descriptor) ([]ocispec.Platform, error) {
	var list struct {
		Manifests []ocispec.Descriptor
		Config    ocispec.Descriptor
	}
	if err := fetchJSON(ctx, from, target, &list); err != nil {
		return nil, err
	}
	all := []ocispec.Platform{}
	if images.IsIndexType(target.MediaType) {
		for _, desc := range list.Manifests {
			if desc.Platform != nil {
				all = append(all, *desc.Platform)
			}
		}
		return all, nil
	}
	var platform ocispec.Platform
	if err := fetchJSON(ctx, from, list.Config, &platform); err != nil {
		return nil, err
	}
	return append(all, platforms.Normalize(platform)), nil
}

func fetchJSON(ctx context.Context, from remotes.Fetcher, desc ocispec.Descriptor, v any) error {
	r, err := from.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, largest))
	if err != nil {
		return err
	}
	if digest.FromBytes(raw) != desc.Digest {
		return fmt.Errorf("%s is not what the registry sent: %w", desc.Digest, io.ErrUnexpectedEOF)
	}
	return json.Unmarshal(raw, v)
}

// SignIn asks a registry whether it knows somebody.
func (s *Store) SignIn(ctx context.Context, auth Auth) error {
	host := hostOf(auth.ServerAddress)
	if host == "" {
		host = hub
	}
	resp, err := newRemote(&auth).get(ctx, host, "/")
	if err == nil {
		err = answer(resp, nil)
	}
	switch {
	case err == nil:
		return nil
	case denied(err):
		return fault.SignIn("login attempt to %s failed: unauthorized: incorrect username or password", host)
	}
	return remoteFault(host, "sign in", err)
}
