package system

import (
	"context"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	types "github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	images "sampan.dev/sampan/engine/docker/internal/image"
	"sampan.dev/sampan/engine/docker/internal/legacy"
	volumes "sampan.dev/sampan/engine/docker/internal/volume"
	"sampan.dev/sampan/internal/fault"
)

// before is the answer as it was until version 1.51.
type before struct {
	LayersSize int64               `json:"LayersSize,omitempty"`
	Images     []image.Summary     `json:"Images,omitzero"`
	Containers []container.Summary `json:"Containers,omitzero"`
	Volumes    []volume.Volume     `json:"Volumes,omitzero"`
	BuildCache []build.CacheRecord `json:"BuildCache,omitzero"`
}

// usage is docker system df.
func (s *Service) usage(w http.ResponseWriter, r *http.Request) error {
	kinds, err := kindsOf(r)
	if err != nil {
		return err
	}
	now, err := s.measure(r.Context(), kinds)
	if err != nil {
		return err
	}
	then := aging(now)
	verbose := api.Bool(r, "verbose")
	if !api.AtLeast(r, "1.52") {
		return oldUsage(w, r, then)
	}
	if verbose {
		return api.JSON(w, http.StatusOK, now)
	}
	// Clients that name no version expect the old members, too.
	return api.JSON(w, http.StatusOK, struct {
		before
		types.DiskUsage
	}{then, now})
}

func oldUsage(w http.ResponseWriter, r *http.Request, then before) error {
	if api.AtLeast(r, "1.44") {
		return api.JSON(w, http.StatusOK, then)
	}
	all, err := legacy.With(then, nil)
	if err != nil {
		return err
	}
	if list, ok := all["Images"].([]any); ok {
		for _, one := range list {
			if i, ok := one.(map[string]any); ok {
				i["VirtualSize"] = i["Size"]
			}
		}
	}
	return api.JSON(w, http.StatusOK, all)
}

func kindsOf(r *http.Request) ([]types.DiskUsageObject, error) {
	all := []types.DiskUsageObject{types.ContainerObject, types.ImageObject, types.VolumeObject, types.BuildCacheObject}
	asked := api.Query(r)["type"]
	if !api.AtLeast(r, "1.42") || len(asked) == 0 {
		return all, nil
	}
	var kinds []types.DiskUsageObject
	for _, kind := range asked {
		if !slices.Contains(all, types.DiskUsageObject(kind)) {
			return nil, fault.Invalid("unknown object type: %s", kind)
		}
		kinds = append(kinds, types.DiskUsageObject(kind))
	}
	return kinds, nil
}

func aging(now types.DiskUsage) before {
	var then before
	if u := now.ImageUsage; u != nil {
		then.LayersSize, then.Images = u.TotalSize, append([]image.Summary{}, u.Items...)
	}
	if u := now.ContainerUsage; u != nil {
		then.Containers = append([]container.Summary{}, u.Items...)
	}
	if u := now.VolumeUsage; u != nil {
		then.Volumes = append([]volume.Volume{}, u.Items...)
	}
	if u := now.BuildCacheUsage; u != nil {
		then.BuildCache = append([]build.CacheRecord{}, u.Items...)
	}
	return then
}

func (s *Service) measure(ctx context.Context, kinds []types.DiskUsageObject) (types.DiskUsage, error) {
	var out types.DiskUsage
	var err error
	for _, kind := range kinds {
		switch kind {
		case types.ContainerObject:
			out.ContainerUsage, err = s.containers(ctx)
		case types.ImageObject:
			out.ImageUsage, err = s.images(ctx)
		case types.VolumeObject:
			out.VolumeUsage, err = s.volumes(ctx)
		case types.BuildCacheObject:
			out.BuildCacheUsage, err = s.cache(ctx)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s *Service) containers(ctx context.Context) (*container.DiskUsage, error) {
	all, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	out := &container.DiskUsage{Items: all, TotalCount: int64(len(all))}
	for _, c := range all {
		out.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			out.ActiveCount++
		default:
			out.Reclaimable += c.SizeRw
		}
	}
	return out, nil
}

// cache counts what builds left for later ones. A record that is part of another is not counted
// twice: it is shared.
func (s *Service) cache(ctx context.Context) (*build.DiskUsage, error) {
	out := &build.DiskUsage{}
	if s.builds == nil {
		return out, nil
	}
	all, err := s.builds(ctx)
	if err != nil {
		return nil, err
	}
	out.Items, out.TotalCount = all, int64(len(all))
	for _, r := range all {
		if !r.Shared {
			out.TotalSize += r.Size
		}
		switch {
		case r.InUse:
			out.ActiveCount++
		case !r.Shared:
			out.Reclaimable += r.Size
		}
	}
	return out, nil
}

func (s *Service) images(ctx context.Context) (*image.DiskUsage, error) {
	all, err := s.engine.Images(ctx)
	if err != nil {
		return nil, err
	}
	usages, total, err := s.engine.ImageUsages(ctx, all)
	if err != nil {
		return nil, err
	}
	users := s.engine.ImageUsers(ctx)
	out := &image.DiskUsage{TotalSize: total, TotalCount: int64(len(all))}
	var used []engine.Image
	for i, one := range all {
		n := len(users[one.ID])
		if n > 0 {
			used = append(used, one)
		}
		out.Items = append(out.Items, images.Summary(one, usages[i], n))
	}
	out.ActiveCount = int64(len(used))
	// What only unused images have could be had back.
	_, needed, err := s.engine.ImageUsages(ctx, used)
	out.Reclaimable = total - needed
	return out, err
}

func (s *Service) volumes(ctx context.Context) (*volume.DiskUsage, error) {
	all, err := s.engine.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	users := s.engine.VolumeUsers(ctx)
	out := &volume.DiskUsage{TotalCount: int64(len(all))}
	for _, v := range all {
		one := volumes.Describe(v)
		one.UsageData = &volume.UsageData{RefCount: int64(users[v.Name]), Size: volumes.Size(ctx, v)}
		size := max(one.UsageData.Size, 0)
		out.TotalSize += size
		if users[v.Name] > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += size
		}
		out.Items = append(out.Items, one)
	}
	return out, nil
}
