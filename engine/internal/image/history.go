package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Step in the making of an image.
type Step struct {
	Created time.Time
	By      string // what made it
	Comment string
	Size    int64 // of its layer, unpacked
}

// History tells how an image was made, the last step first.
func (s *Store) History(ctx context.Context, ref, platform string) (Image, []Step, error) {
	image, err := s.ImageFor(ctx, ref, platform)
	if err != nil {
		return image, nil, err
	}
	_, file, err := s.of(ctx, image.Manifest)
	if err != nil {
		return image, nil, err
	}
	sizes, err := s.layerSizes(ctx, file.RootFS.DiffIDs)
	if err != nil {
		return image, nil, err
	}
	var steps []Step
	for _, h := range told(file) {
		step := Step{By: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			step.Created = *h.Created
		}
		if !h.EmptyLayer {
			step.Size, sizes = sizes[0], sizes[1:]
		}
		steps = append(steps, step)
	}
	slices.Reverse(steps)
	return image, steps, nil
}

// layerSizes are those of the unpacked layers; zero for one that is not.
func (s *Store) layerSizes(ctx context.Context, ids []digest.Digest) ([]int64, error) {
	snapshots := s.store.Client.SnapshotService(s.store.Snapshotter)
	sizes := make([]int64, len(ids))
	for i := range ids {
		usage, err := snapshots.Usage(ctx, identity.ChainID(slices.Clone(ids[:i+1])).String())
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("measure layer %s: %w", ids[i], err)
		}
		sizes[i] = usage.Size
	}
	return sizes, nil
}

// told is the history in a configuration, if it fits to the layers. Tools that do not write
// any leave as many steps as there are layers.
func told(file configFile) []ocispec.History {
	layers := 0
	for _, h := range file.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	if layers == len(file.RootFS.DiffIDs) {
		return slices.Clone(file.History)
	}
	history := make([]ocispec.History, len(file.RootFS.DiffIDs))
	for i := range history {
		history[i].Created = file.Created
	}
	return history
}
