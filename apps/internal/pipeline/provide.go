package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"sampan.dev/sampan/apps/internal/catalog"
)

// provide makes what a build made once more when it is not on this machine: a backup has
// commits and no images, and another kind of runner needs another kind of result. made is
// false when it is there. Nobody else may be making a release of the app.
func (p *Pipeline) provide(ctx context.Context, a catalog.App, b catalog.Build) (made bool, err error) {
	defer func() {
		if v := recover(); v != nil { // one broken build must not end the server
			err = fmt.Errorf("build %s again: %v\n%s", b.UUID, v, debug.Stack())
		}
	}()
	here, err := p.cfg.Runner.Has(ctx, b.Result.Artifact)
	if here || err != nil {
		return false, err
	}
	if b.SHA == "" { // it was made elsewhere
		_, err := p.cfg.Runner.Fetch(ctx, b.Result.Image)
		return err == nil, err
	}
	p.cfg.Log.Info("building again what is not on this machine", "app", a.Name, "commit", b.SHA)
	j, err := p.newJob(a, b)
	if err != nil {
		return false, err
	}
	j.out.Line("-----> Building %s from %.7s%s again: its image is not on this machine", a.Name, b.SHA, branch(b.Branch))
	result, err := p.compile(ctx, j)
	if err == nil {
		err = p.cfg.Catalog.SetBuild(ctx, p.cfg.Catalog.DB(), b.ID, catalog.Built, "", result)
	}
	if err != nil && ctx.Err() == nil {
		p.report(j, err)
	}
	p.finish(j, catalog.Release{}, err)
	return err == nil, err
}

// bringBack makes the app's release startable when it is not, as after a restore.
func (p *Pipeline) bringBack(ctx context.Context, a catalog.App) error {
	return p.exclusively(ctx, a, true, func(ctx context.Context) error {
		f, err := p.cfg.Controller.Formation(ctx, a)
		if err != nil || f.Release == 0 {
			return err
		}
		r, err := p.cfg.Catalog.Release(ctx, a.ID, f.Release)
		if err != nil {
			return err
		}
		b, err := p.cfg.Catalog.BuildByID(ctx, r.BuildID)
		if err != nil {
			return err
		}
		made, err := p.provide(ctx, a, b)
		if made {
			err = errors.Join(err, p.cfg.Controller.Renew(ctx, a))
		}
		return err
	})
}
