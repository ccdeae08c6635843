package pipeline

import (
	"context"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
)

const (
	keptReleases = 10 // that served, whose images stay for rollbacks; older ones are built again
	enoughGone   = 20 // builds in a row without an image: those before them have none either
)

// tidy frees the images that no recent release runs. Nobody else may be making a release of
// the app. What cannot be freed now, for an ended instance still has its log, is freed later.
func (p *Pipeline) tidy(ctx context.Context, a catalog.App) {
	old, err := p.old(ctx, a)
	if err != nil {
		p.logTidy(ctx, a, err)
		return
	}
	gone := 0
	for _, artifact := range old {
		here, err := p.cfg.Runner.Has(ctx, artifact)
		if err != nil {
			p.logTidy(ctx, a, err)
			return
		}
		if !here {
			if gone++; gone == enoughGone {
				return
			}
			continue
		}
		gone = 0
		if err := p.cfg.Runner.Discard(ctx, artifact); err != nil && !fault.Is(err, fault.KindConflict) {
			p.logTidy(ctx, a, err)
		}
	}
}

func (p *Pipeline) logTidy(ctx context.Context, a catalog.App, err error) {
	if ctx.Err() == nil {
		p.cfg.Log.Warn("could not free the images of old releases", "app", a.Name, "err", err)
	}
}

// old lists what was built for the app and is not needed, newest first.
func (p *Pipeline) old(ctx context.Context, a catalog.App) ([]runner.Artifact, error) {
	releases, err := p.cfg.Catalog.Releases(ctx, a.ID, 0)
	if err != nil {
		return nil, err
	}
	f, err := p.cfg.Controller.Formation(ctx, a)
	if err != nil {
		return nil, err
	}
	needed, served := map[int64]bool{}, 0
	for _, r := range releases {
		if r.State == catalog.Live {
			served++
		}
		if r.Version == f.Release || r.Version == f.Next || (r.State != catalog.Failed && served <= keptReleases) {
			needed[r.BuildID] = true
		}
	}
	builds, err := p.cfg.Catalog.Builds(ctx, a.ID, 0)
	if err != nil {
		return nil, err
	}
	seen := map[runner.Artifact]bool{{}: true}
	for _, b := range builds {
		if needed[b.ID] || b.State == catalog.Building || b.SHA == "" { // an image of elsewhere is not ours
			seen[b.Result.Artifact] = true
		}
	}
	var list []runner.Artifact
	for _, b := range builds {
		if artifact := b.Result.Artifact; !seen[artifact] {
			seen[artifact] = true
			list = append(list, artifact)
		}
	}
	return list, nil
}
