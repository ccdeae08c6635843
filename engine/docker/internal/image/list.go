package image

import (
	"context"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	types "github.com/moby/moby/api/types/image"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/legacy"
	"sampan.dev/sampan/engine/docker/internal/moment"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	if old := api.Query(r).Get("filter"); old != "" && !api.AtLeast(r, "1.25") && !f.Has("reference") {
		f["reference"] = map[string]bool{old: true}
	}
	summaries, err := s.summaries(r.Context(), f, api.AtLeast(r, "1.47") && api.Bool(r, "manifests"))
	if err != nil {
		return err
	}
	for i := range summaries {
		s.age(r, &summaries[i])
	}
	if api.AtLeast(r, "1.44") {
		return api.JSON(w, http.StatusOK, summaries)
	}
	all := make([]any, len(summaries))
	for i, one := range summaries {
		if all[i], err = legacy.With(one, map[string]any{"VirtualSize": one.Size}); err != nil {
			return err
		}
	}
	return api.JSON(w, http.StatusOK, all)
}

// age takes away what a client of an older version does not expect.
func (s *Service) age(r *http.Request, i *types.Summary) {
	if !api.AtLeast(r, "1.43") && len(i.RepoTags)+len(i.RepoDigests) == 0 {
		i.RepoTags, i.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	if !api.AtLeast(r, "1.48") {
		i.Descriptor = nil
	}
	if !api.AtLeast(r, "1.51") {
		i.Containers = -1
	}
	if !api.AtLeast(r, "1.42") || !api.Bool(r, "shared-size") {
		i.SharedSize = -1
	}
}

// summaries of the images that filters choose.
func (s *Service) summaries(ctx context.Context, f api.Filters, manifests bool) ([]types.Summary, error) {
	choose, err := s.chooser(ctx, f)
	if err != nil {
		return nil, err
	}
	all, err := s.engine.Images(ctx)
	if err != nil {
		return nil, err
	}
	usages, _, err := s.engine.ImageUsages(ctx, all)
	if err != nil {
		return nil, err
	}
	users := s.engine.ImageUsers(ctx)
	list := []types.Summary{}
	for i, image := range all {
		if !choose(image) {
			continue
		}
		one := Summary(image, usages[i], len(users[image.ID]))
		one.RepoTags, one.RepoDigests = matching(f, one.RepoTags), ofMatching(f, one)
		if manifests {
			if one.Manifests, err = s.manifests(ctx, image, users); err != nil {
				return nil, err
			}
		}
		list = append(list, one)
	}
	return list, nil
}

// Summary is an image in a list.
func Summary(i engine.Image, u engine.ImageUsage, containers int) types.Summary {
	target := i.Target
	out := types.Summary{
		ID: i.ID, RepoTags: filled(i.Names), RepoDigests: filled(i.Digests), Labels: i.Config.Labels, Descriptor: &target,
		Size: u.Total(), SharedSize: u.Shared, Containers: int64(containers),
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if !i.Created.IsZero() {
		out.Created = i.Created.Unix()
	}
	return out
}

// filled is never null.
func filled(all []string) []string { return append([]string{}, all...) }

func (s *Service) manifests(ctx context.Context, i engine.Image, users map[string][]string) ([]types.ManifestSummary, error) {
	variants, err := s.engine.ImageVariants(ctx, i)
	if err != nil {
		return nil, err
	}
	all := make([]types.ManifestSummary, len(variants))
	for n, v := range variants {
		all[n] = manifest(v)
		if v.For == "" && v.Descriptor.Digest == i.Manifest.Digest {
			all[n].ImageData.Containers = filled(users[i.ID])
		}
	}
	return all, nil
}

func manifest(v engine.ImageVariant) types.ManifestSummary {
	m := types.ManifestSummary{ID: v.Descriptor.Digest.String(), Descriptor: v.Descriptor, Available: v.Here, Kind: types.ManifestKindImage}
	m.Size.Content, m.Size.Total = v.Usage.Content, v.Usage.Total()
	if v.For != "" {
		m.Kind, m.AttestationData = types.ManifestKindAttestation, &types.AttestationProperties{For: digestOf(v.For)}
		return m
	}
	m.ImageData = &types.ImageProperties{Platform: v.Platform, Containers: []string{}}
	m.ImageData.Size.Unpacked = v.Usage.Unpacked
	return m
}

// chooser makes a function of filters.
func (s *Service) chooser(ctx context.Context, f api.Filters) (func(engine.Image) bool, error) {
	if err := f.Check("before", "dangling", "label", "label!", "reference", "since", "until"); err != nil {
		return nil, err
	}
	var all []func(engine.Image) bool
	add := func(fits func(engine.Image) bool) { all = append(all, fits) }
	for _, ref := range f.Get("before") {
		other, err := s.engine.Image(ctx, ref)
		if err != nil {
			return nil, err
		}
		add(func(i engine.Image) bool { return i.Created.Before(other.Created) })
	}
	for _, ref := range f.Get("since") {
		other, err := s.engine.Image(ctx, ref)
		if err != nil {
			return nil, err
		}
		add(func(i engine.Image) bool { return i.Created.After(other.Created) })
	}
	if f.Has("dangling") {
		want, err := f.Bool("dangling", false)
		if err != nil {
			return nil, err
		}
		add(func(i engine.Image) bool { return i.Dangling() == want })
	}
	old, err := until(f)
	if err != nil {
		return nil, err
	}
	add(old)
	add(func(i engine.Image) bool { return f.MatchLabels(i.Config.Labels) })
	add(func(i engine.Image) bool { return !f.Has("reference") || len(matching(f, i.Names)) > 0 })
	return func(i engine.Image) bool {
		for _, fits := range all {
			if !fits(i) {
				return false
			}
		}
		return true
	}, nil
}

// until chooses images that got their name before a time. When they were made says nothing:
// builds that can be repeated give no time, or one of their own.
func until(f api.Filters) (func(engine.Image) bool, error) {
	before := time.Time{}
	for _, text := range f.Get("until") {
		t, err := moment.Parse(text, time.Now())
		if err != nil {
			return nil, fault.Invalid("invalid value for 'until' filter: %w", err)
		}
		if before.IsZero() || t.Before(before) {
			before = t
		}
	}
	return func(i engine.Image) bool { return before.IsZero() || i.Tagged.Before(before) }, nil
}

// matching are the names that fit to the patterns of "reference".
func matching(f api.Filters, names []string) []string {
	if !f.Has("reference") {
		return names
	}
	fit := []string{}
	for _, name := range names {
		if matches(f.Get("reference"), name) {
			fit = append(fit, name)
		}
	}
	return fit
}

// ofMatching are the digests of repositories that have a name which fits.
func ofMatching(f api.Filters, i types.Summary) []string {
	if !f.Has("reference") {
		return i.RepoDigests
	}
	fit := []string{}
	for _, digest := range i.RepoDigests {
		repo, _, _ := strings.Cut(digest, "@")
		if slices.ContainsFunc(matching(f, i.RepoTags), func(name string) bool { return strings.HasPrefix(name, repo+":") }) {
			fit = append(fit, digest)
		}
	}
	return fit
}

func matches(patterns []string, name string) bool {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	forms := []string{reference.FamiliarString(ref), reference.FamiliarName(ref), ref.String(), ref.Name()}
	for _, pattern := range patterns {
		for _, form := range forms {
			if ok, err := path.Match(pattern, form); ok && err == nil {
				return true
			}
		}
	}
	return false
}

func (s *Service) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	if err := f.Check("dangling", "label", "label!", "until"); err != nil {
		return err
	}
	danglingOnly, err := f.Bool("dangling", true)
	if err != nil {
		return err
	}
	delete(f, "dangling") // its no means: others, too
	choose, err := s.chooser(r.Context(), f)
	if err != nil {
		return err
	}
	removed, bytes, err := s.engine.PruneImages(r.Context(), engine.PruneOptions{All: !danglingOnly, Only: choose})
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, types.PruneReport{ImagesDeleted: deleted(removed), SpaceReclaimed: uint64(bytes)})
}
