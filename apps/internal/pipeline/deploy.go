package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/controller"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/internal/fault"
)

// lock gives the right to make a release of the app. With wait it queues, else it refuses
// while another has it.
func (p *Pipeline) lock(ctx context.Context, a catalog.App, wait bool) (unlock func(), err error) {
	p.mu.Lock()
	token := p.line(a.ID).deploy
	p.mu.Unlock()
	unlock = func() { token <- struct{}{} }
	select {
	case <-token:
		return unlock, nil
	default:
	}
	if !wait {
		return nil, fault.Conflict("Deployment for %s is already in progress", a.Name).Try("repeat this when it has ended")
	}
	select {
	case <-token:
		return unlock, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Ship makes a release that needs no build, deploys it, and returns when it serves. create runs
// with nobody else making one. When ctx ends the deploy goes on.
func (p *Pipeline) Ship(ctx context.Context, a catalog.App, create func(ctx context.Context) (catalog.Release, error)) (catalog.Release, error) {
	var release catalog.Release
	err := p.exclusively(ctx, a, false, func(ctx context.Context) error {
		var err error
		if release, err = create(ctx); err != nil || release.BuildID == 0 {
			return err
		}
		return p.deploy(ctx, a, release)
	})
	return release, err
}

// Exclusively runs fn while nothing else makes a release of the app, for as long as the
// server lives.
func (p *Pipeline) Exclusively(ctx context.Context, a catalog.App, fn func(ctx context.Context) error) error {
	return p.exclusively(ctx, a, false, fn)
}

func (p *Pipeline) exclusively(ctx context.Context, a catalog.App, wait bool, fn func(ctx context.Context) error) error {
	unlock, err := p.lock(ctx, a, wait)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	err = p.start(func(ctx context.Context) {
		err := fn(ctx)
		unlock() // before anybody is told: what they ask for next is not in the way of this
		done <- err
	})
	if err != nil {
		unlock()
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Pipeline) deploy(ctx context.Context, a catalog.App, r catalog.Release) error {
	b, err := p.cfg.Catalog.BuildByID(ctx, r.BuildID)
	if err != nil {
		return err
	}
	if _, err := p.provide(ctx, a, b); err != nil {
		return err
	}
	f, err := p.cfg.Controller.Formation(ctx, a)
	if err != nil {
		return err
	}
	before := b
	if f.Release != 0 {
		old, err := p.cfg.Catalog.Release(ctx, a.ID, f.Release)
		if err != nil {
			return err
		}
		if before, err = p.cfg.Catalog.BuildByID(ctx, old.BuildID); err != nil {
			return err
		}
	}
	return p.cfg.Controller.Deploy(ctx, a, r.Version, Counts(b, before, f.Counts), nil)
}

// Image releases an image that was made elsewhere.
func (p *Pipeline) Image(ctx context.Context, a catalog.App, b catalog.Build) (catalog.Build, catalog.Release, error) {
	b.App = a.ID
	result := b.Result
	b, _, err := p.cfg.Catalog.Ask(ctx, b)
	if err != nil {
		return b, catalog.Release{}, err
	}
	b.Result = result
	j := &job{app: a, build: b}
	release, err := p.Ship(ctx, a, func(ctx context.Context) (catalog.Release, error) {
		r, _, err := p.release(ctx, j, fmt.Sprintf("%s deployed %s", b.Author, b.Result.Image))
		return r, err
	})
	b.State = catalog.Built
	return b, release, err
}

// resume finishes or fails what a crash left in the middle.
func (p *Pipeline) resume(ctx context.Context) error {
	select {
	case <-p.cfg.Controller.Ready():
	case <-ctx.Done():
		return nil
	}
	apps, err := p.cfg.Catalog.Apps(ctx, "destroying = 0")
	if err != nil {
		return stopped(ctx, err)
	}
	for _, a := range apps {
		err := p.start(func(ctx context.Context) {
			if err := errors.Join(p.settle(ctx, a), p.bringBack(ctx, a)); err != nil && ctx.Err() == nil {
				p.cfg.Log.Error("could not resume an app's deploy", "app", a.Name, "err", err)
			}
		})
		if err != nil {
			return stopped(ctx, err)
		}
	}
	return stopped(ctx, p.rebuild(ctx))
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// settle decides the pending releases of an app: the newest is deployed, the rest failed.
func (p *Pipeline) settle(ctx context.Context, a catalog.App) error {
	pending, err := p.cfg.Catalog.Unsettled(ctx, a.ID)
	if err != nil {
		return err
	}
	f, err := p.cfg.Controller.Formation(ctx, a)
	if err != nil {
		return err
	}
	if len(pending) == 0 {
		return p.clear(ctx, a, f)
	}
	newest := pending[len(pending)-1]
	for _, r := range pending {
		switch {
		case r.Version == f.Release:
			err = p.cfg.Catalog.Settle(ctx, a.ID, r.Version, catalog.Live, "")
		case r.Version < f.Release || (r.Version != newest.Version && r.Version != f.Next):
			err = p.cfg.Catalog.Settle(ctx, a.ID, r.Version, catalog.Failed, "a later release took its place while the server was away")
		case r.Version == f.Next:
			p.cfg.Log.Info("finishing an interrupted deploy", "app", a.Name, "release", r.Version)
			err = p.exclusively(ctx, a, true, func(ctx context.Context) error { return p.cfg.Controller.Finish(ctx, a, r.Version) })
		default:
			p.cfg.Log.Info("deploying a release that was interrupted", "app", a.Name, "release", r.Version)
			err = p.exclusively(ctx, a, true, func(ctx context.Context) error { return p.deploy(ctx, a, r) })
		}
		var failure *controller.Failure
		if err != nil && !errors.As(err, &failure) {
			return err
		}
	}
	return nil
}

// clear drops a next release that has been decided already.
func (p *Pipeline) clear(ctx context.Context, a catalog.App, f formation.Formation) error {
	if f.Next == 0 {
		return nil
	}
	return p.cfg.Controller.Drop(ctx, a, f.Next)
}

// rebuild puts the builds without a result in line again, where their commit can be had.
func (p *Pipeline) rebuild(ctx context.Context) error {
	builds, err := p.cfg.Catalog.Unfinished(ctx)
	if err != nil {
		return err
	}
	for _, b := range builds {
		a, err := p.cfg.Catalog.AppByID(ctx, b.App)
		if err != nil {
			return err
		}
		if a.Destroying || strings.HasPrefix(b.Cause, GateCause) || b.SHA == "" {
			err = p.cfg.Catalog.SetBuild(ctx, p.cfg.Catalog.DB(), b.ID, catalog.Broken, "the server stopped in the middle; push again", b.Result)
		} else {
			err = p.again(a, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// again puts a build in line, unless it is there already.
func (p *Pipeline) again(a catalog.App, b catalog.Build) error {
	p.admission.Lock()
	defer p.admission.Unlock()
	p.mu.Lock()
	known := p.jobs[b.ID] != nil
	p.mu.Unlock()
	if known {
		return nil
	}
	j, err := p.newJob(a, b)
	if err != nil {
		return err
	}
	return p.enqueue(j)
}

// GateCause begins the causes of pushes whose commit is refused when the build breaks: it
// cannot be had again.
const GateCause = "gate:"
