package platform

import (
	"context"
	"fmt"
	"io"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/pipeline"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// Builds lists an app's builds, newest first.
func (p *Platform) Builds(ctx context.Context, who identity.Who, name string, limit int) (catalog.App, []catalog.Build, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return a, nil, err
	}
	list, err := p.catalog.Builds(ctx, a.ID, limit)
	return a, list, err
}

// Build finds one.
func (p *Platform) Build(ctx context.Context, who identity.Who, name, uuid string) (catalog.App, catalog.Build, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return a, catalog.Build{}, err
	}
	b, err := p.catalog.Build(ctx, a.ID, uuid)
	return a, b, err
}

// Output copies what a build printed to w, and goes on while it prints.
func (p *Platform) Output(ctx context.Context, who identity.Who, name, uuid string, w io.Writer, flush func()) error {
	_, b, err := p.Build(ctx, who, name, uuid)
	if err != nil {
		return err
	}
	return p.pipeline.Transcript(ctx, b, w, flush)
}

// PushImage releases an image that was made elsewhere.
func (p *Platform) PushImage(ctx context.Context, who identity.Who, name, image string, procfile map[string]string) (catalog.App, catalog.Build, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return a, catalog.Build{}, err
	}
	if image == "" {
		return a, catalog.Build{}, fault.Invalid("This field may not be blank.").On("image")
	}
	if err := CheckImage(a.Name, image); err != nil {
		return a, catalog.Build{}, err
	}
	fetched, err := p.cfg.Runner.Fetch(ctx, image)
	if err != nil {
		if fault.Is(err, fault.KindNotFound) {
			err = fault.Invalid("image %s not found", image).Try("is its name right, and may this server read it?")
		}
		return a, catalog.Build{}, err
	}
	b := catalog.Build{Author: who.Name, Cause: "image:" + catalog.NewUUID()}
	b.Result.Artifact, b.Result.Port = fetched.Artifact, fetched.Port
	for process, command := range procfile {
		if b.Result.Processes == nil {
			b.Result.Processes = map[string][]string{}
		}
		b.Result.Processes[process] = []string{"/bin/sh", "-c", command}
	}
	b, _, err = p.pipeline.Image(ctx, a, b)
	return a, b, err
}

// Releases lists an app's releases, newest first.
func (p *Platform) Releases(ctx context.Context, who identity.Who, name string, limit int) (catalog.App, []catalog.Release, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return a, nil, err
	}
	list, err := p.catalog.Releases(ctx, a.ID, limit)
	return a, list, err
}

// Release finds one.
func (p *Platform) Release(ctx context.Context, who identity.Who, name string, version int) (catalog.App, catalog.Release, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return a, catalog.Release{}, err
	}
	r, err := p.catalog.Release(ctx, a.ID, version)
	return a, r, err
}

// Rollback makes a new release with the build and configuration of an earlier one; version 0
// is the one before.
func (p *Platform) Rollback(ctx context.Context, who identity.Who, name string, version int) (catalog.Release, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return catalog.Release{}, err
	}
	return p.pipeline.Ship(ctx, a, func(ctx context.Context) (made catalog.Release, err error) {
		old, err := p.target(ctx, a, version)
		if err != nil {
			return catalog.Release{}, err
		}
		summary := fmt.Sprintf("%s rolled back to v%d", who.Name, old.Version)
		err = p.catalog.DB().Tx(ctx, func(tx *db.Tx) error {
			if made, err = p.catalog.AddRelease(ctx, tx, a, who.Name, old.BuildID, old.ConfigID, summary); err != nil {
				return err
			}
			return p.catalog.Note(ctx, tx, a.ID, catalog.Info, summary)
		})
		return made, err
	})
}

// target finds the release to go back to.
func (p *Platform) target(ctx context.Context, a catalog.App, version int) (catalog.Release, error) {
	if version < 0 {
		return catalog.Release{}, fault.Invalid("version cannot be below 0")
	}
	if version == 0 {
		list, err := p.catalog.Releases(ctx, a.ID, 0)
		if err != nil {
			return catalog.Release{}, err
		}
		serving := true
		for _, r := range list {
			if r.State != catalog.Live {
				continue
			}
			if !serving {
				version = r.Version
				break
			}
			serving = false
		}
	}
	if version <= 1 {
		return catalog.Release{}, fault.Invalid("Cannot roll back to initial release.")
	}
	r, err := p.catalog.Release(ctx, a.ID, version)
	switch {
	case err != nil:
		return r, err
	case r.BuildID == 0:
		return r, fault.Invalid("Cannot roll back to initial release.").Try("v%d has nothing to run", r.Version)
	case r.State != catalog.Live:
		return r, fault.Invalid("v%d failed and cannot be rolled back to", r.Version).Try("choose a release that has served")
	}
	return r, nil
}

// Redeploy begins to build and release the newest commit of the app's branch.
func (p *Platform) Redeploy(ctx context.Context, who identity.Who, name string) (*pipeline.Ticket, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return nil, err
	}
	if err := p.maySource(ctx, identity.View, a); err != nil {
		return nil, err
	}
	branch, commit := a.Branch, ""
	if a.Repo != 0 {
		commit, err = p.cfg.Source.Resolve(ctx, a.Repo, "refs/heads/"+branch)
	} else if branch, err = p.remote(a).Newest(ctx); err == nil {
		commit, err = p.remote(a).Resolve(ctx, branch)
	}
	if err != nil {
		return nil, err
	}
	return p.pipeline.Submit(ctx, a, pipeline.Request{Author: who.Name, Cause: "deploy:" + catalog.NewUUID(), SHA: commit, Branch: branch})
}
