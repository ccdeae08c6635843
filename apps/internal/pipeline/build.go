package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/controller"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/build"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// do takes one job from its commit to a serving release.
func (p *Pipeline) do(ctx context.Context, j *job) {
	began := time.Now()
	release, err := p.ship(ctx, j)
	switch {
	case err == nil:
		j.out.Line("-----> %s deployed in %.1f s", p.cfg.URL(p.cfg.Host(j.app)), time.Since(began).Seconds())
	case ctx.Err() == nil:
		p.report(j, err)
	default:
		err = p.interrupt(ctx, j, release)
	}
	p.finish(j, release, err)
}

// interrupt ends a job whose app was destroyed, or for a server that stops. The next server goes
// on with it, unless the push itself waits for the result: that one is refused, so its release
// must not come later.
func (p *Pipeline) interrupt(ctx context.Context, j *job, r catalog.Release) error {
	if destroyed, ok := fault.Of(context.Cause(ctx)); ok {
		p.report(j, destroyed)
		return destroyed
	}
	if !strings.HasPrefix(j.build.Cause, GateCause) {
		j.out.Line(" !     The server is stopping. It goes on with this when it is back.")
		return fault.Unavailable("the server is stopping").Try("it goes on with this when it is back")
	}
	j.out.Line(" !     The server is stopping. Push again when it is back.")
	stopping := fault.Unavailable("the server is stopping").Try("push again when it is back")
	if r.Version == 0 {
		return stopping
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
	defer cancel()
	if err := p.cfg.Controller.Drop(ctx, j.app, r.Version); err != nil {
		return errors.Join(stopping, err)
	}
	return errors.Join(stopping, p.cfg.Catalog.Settle(ctx, j.app.ID, r.Version, catalog.Failed, stopping.Message))
}

// lastWrites is how long what must be written at a stop may take.
const lastWrites = 3 * time.Second

func (p *Pipeline) ship(ctx context.Context, j *job) (_ catalog.Release, err error) {
	defer func() {
		if v := recover(); v != nil { // one broken build must not end the server
			err = fmt.Errorf("build %s: %v\n%s", j.build.UUID, v, debug.Stack())
		}
	}()
	result, err := p.build(ctx, j)
	if err != nil {
		if ctx.Err() != nil {
			return catalog.Release{}, err // the next server builds it
		}
		return catalog.Release{}, errors.Join(err,
			p.cfg.Catalog.SetBuild(ctx, p.cfg.Catalog.DB(), j.build.ID, catalog.Broken, reason(err), j.build.Result))
	}
	j.build.Result = result
	unlock, err := p.lock(ctx, j.app, true)
	if err != nil {
		return catalog.Release{}, err
	}
	defer unlock()
	release, before, err := p.release(ctx, j, fmt.Sprintf("%s deployed %.7s", j.build.Author, j.build.SHA))
	if err != nil {
		return release, err
	}
	j.out.Line("-----> Release v%d", release.Version)
	counts, err := p.counts(ctx, j.app, j.build, before)
	if err != nil {
		return release, err
	}
	err = p.cfg.Controller.Deploy(ctx, j.app, release.Version, counts, func(text string) { j.out.Line("%s", text) })
	if err == nil {
		p.tidy(ctx, j.app)
	}
	return release, err
}

// build makes the image. What it prints goes to the transcript.
func (p *Pipeline) build(ctx context.Context, j *job) (catalog.Result, error) {
	j.out.Line("-----> Building %s from %.7s%s", j.app.Name, j.build.SHA, branch(j.build.Branch))
	if !p.cfg.Isolated {
		j.out.Line(" !     This server runs apps as plain processes of the host: there is NO ISOLATION")
		j.out.Line(" !     between them, nor from the host. `sampan doctor` says what containers need.")
	}
	if err := p.cfg.Catalog.SetBuild(ctx, p.cfg.Catalog.DB(), j.build.ID, catalog.Building, "", catalog.Result{}); err != nil {
		return catalog.Result{}, err
	}
	return p.compile(ctx, j)
}

// compile runs the builder on the files of the commit.
func (p *Pipeline) compile(ctx context.Context, j *job) (catalog.Result, error) {
	if j.tree == "" {
		tree, err := p.tree(j.build)
		if err != nil {
			return catalog.Result{}, err
		}
		j.tree = tree
		if j.committed, err = p.cfg.Checkout(ctx, j.app, j.build.SHA, tree); err != nil {
			return catalog.Result{}, err
		}
	}
	latest, err := p.cfg.Catalog.Latest(ctx, p.cfg.Catalog.DB(), j.app.ID)
	if err != nil {
		return catalog.Result{}, err
	}
	cfg, err := p.cfg.Catalog.Config(ctx, p.cfg.Catalog.DB(), j.app.ID, latest.ConfigID)
	if err != nil {
		return catalog.Result{}, err
	}
	r, err := p.cfg.Builder.Build(ctx, build.Request{
		Cache: j.app.UUID, Tree: j.tree, Commit: j.build.SHA, Time: j.committed, Env: cfg.Settings.Values,
		Name: "sampan/" + j.app.Name, Output: j.out,
	})
	if err != nil {
		return catalog.Result{}, err
	}
	result := catalog.Result{Builder: r.Builder, Detected: r.Detected, Processes: r.Processes, Env: r.Env, Port: r.Port, Dockerfile: r.Dockerfile}
	result.Image, result.Dir = r.Image, r.Dir
	return result, nil
}

func branch(name string) string {
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}

// release records the result and the release that has it, in one transaction.
func (p *Pipeline) release(ctx context.Context, j *job, summary string) (rel catalog.Release, before catalog.Build, err error) {
	c := p.cfg.Catalog
	err = c.DB().Tx(ctx, func(tx *db.Tx) error {
		latest, err := c.Latest(ctx, tx, j.app.ID)
		if err != nil {
			return err
		}
		if before = (catalog.Build{ID: latest.BuildID}); before.ID != 0 {
			if before, err = c.BuildIn(ctx, tx, latest.BuildID); err != nil {
				return err
			}
		}
		if err := c.SetBuild(ctx, tx, j.build.ID, catalog.Built, "", j.build.Result); err != nil {
			return err
		}
		if err := c.Note(ctx, tx, j.app.ID, catalog.Info, fmt.Sprintf("build %s-%s created", j.app.Name, j.build.UUID[:7])); err != nil {
			return err
		}
		if rel, err = c.AddRelease(ctx, tx, j.app, j.build.Author, j.build.ID, latest.ConfigID, summary); err != nil {
			return err
		}
		return c.Note(ctx, tx, j.app.ID, catalog.Info, summary)
	})
	return rel, before, err
}

func (p *Pipeline) counts(ctx context.Context, a catalog.App, b, before catalog.Build) (formation.Counts, error) {
	f, err := p.cfg.Controller.Formation(ctx, a)
	if err != nil {
		return nil, err
	}
	return Counts(b, before, f.Counts), nil
}

// report ends a transcript with what went wrong.
func (p *Pipeline) report(j *job, err error) {
	var failure *controller.Failure
	if errors.As(err, &failure) {
		j.out.Line(" !     Release v%d failed: %s", failure.Version, failure.Reason)
		io.WriteString(j.out, failure.Report())
		return
	}
	if f, ok := fault.Of(err); ok {
		j.out.Line(" !     %s", strings.ReplaceAll(f.Message, "\n", "\n       "))
		if f.Hint != "" {
			j.out.Line("       %s", f.Hint)
		}
		return
	}
	p.cfg.Log.Error("a build ended with an error of ours", "app", j.app.Name, "build", j.build.UUID, "err", err)
	j.out.Line(" !     Something went wrong in Sampan itself; its log has the details under build %.8s", j.build.UUID)
}

// reason is an error in words for the app's owner.
func reason(err error) string {
	if f, ok := fault.Of(err); ok {
		return f.Message
	}
	return "something went wrong in Sampan itself"
}
