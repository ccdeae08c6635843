// Package platform does what people ask of apps.
//
// Every method checks that who may do it: an app's owner and administrators all, those with
// whom it is shared everything but giving it away and destroying it, others do not learn that
// it exists. The controller API, the pages, the git remotes and the SSH console are doors to
// these methods and decide nothing themselves. A method that changes what runs returns when
// it does, or with the reason why not; the work goes on when its ctx ends.
package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/controller"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/logs"
	"sampan.dev/sampan/apps/internal/meter"
	"sampan.dev/sampan/apps/internal/pipeline"
	"sampan.dev/sampan/apps/internal/remote"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/apps/internal/transcript"
	"sampan.dev/sampan/build"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
	"sampan.dev/sampan/mesh"
)

// Kind is what apps are called as objects of permission.
const Kind = "app"

// A Source is where repositories are.
type Source interface {
	// Repo finds a repository that who may see, by OWNER/NAME.
	Repo(ctx context.Context, who identity.Who, path string) (id int64, canonical string, err error)
	// May says why who may not act on a repository; nil when they may.
	May(ctx context.Context, who identity.Who, act identity.Action, repo int64) error
	Resolve(ctx context.Context, repo int64, revision string) (commit string, err error)
	// Checkout writes the files of a commit into dir and tells when it was committed.
	Checkout(ctx context.Context, repo int64, commit, dir string) (time.Time, error)
	// Init makes an empty bare repository.
	Init(dir string) error
}

// Config is what a Platform stands on.
type Config struct {
	Dir      string
	Domain   string
	SSHURL   string // of the git remotes, as in ssh://git@host:2222
	DB       *db.DB
	Identity *identity.Service
	KV       *clientv3.Client
	Mesh     *mesh.Mesh
	Builder  *build.Builder
	Runner   runner.Runner
	Secret   *secret.Box
	Source   Source
	Log      *slog.Logger
}

// A Platform is all apps of one installation.
type Platform struct {
	cfg        Config
	catalog    *catalog.Catalog
	controller *controller.Controller
	pipeline   *pipeline.Pipeline
	meter      *meter.Meter
	logs       *logs.Reader
}

// Open migrates and makes directories; nothing starts before Run.
func Open(ctx context.Context, cfg Config) (*Platform, error) {
	c, err := catalog.Open(ctx, cfg.DB, cfg.Secret)
	if err != nil {
		return nil, err
	}
	cfg.Identity.BeforeDelete("apps", catalog.Owned)
	shelf, err := transcript.Open(filepath.Join(cfg.Dir, "output"))
	if err != nil {
		return nil, err
	}
	p := &Platform{cfg: cfg, catalog: c}
	p.controller = controller.New(controller.Config{
		Catalog: c, Store: formation.New(cfg.KV), Runner: cfg.Runner, Mesh: cfg.Mesh, Domain: cfg.Domain, Log: cfg.Log,
	})
	p.pipeline, err = pipeline.New(pipeline.Config{
		Catalog: c, Controller: p.controller, Runner: cfg.Runner, Builder: cfg.Builder, Shelf: shelf, Dir: filepath.Join(cfg.Dir, "trees"),
		Isolated: cfg.Runner.Traits().Isolated, Log: cfg.Log, Checkout: p.checkout, URL: cfg.Mesh.URL, Host: p.Host,
	})
	if err != nil {
		return nil, err
	}
	p.meter = &meter.Meter{Catalog: c, Controller: p.controller, Runner: cfg.Runner, Mesh: cfg.Mesh}
	p.logs = &logs.Reader{Catalog: c, Controller: p.controller, Runner: cfg.Runner}
	return p, nil
}

// Run works until ctx ends.
func (p *Platform) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.controller.Run(ctx) })
	group.Go(func() error { return p.pipeline.Run(ctx) })
	group.Go(func() error { return p.meter.Run(ctx) })
	group.Go(func() error { return p.sweep(ctx) })
	return group.Wait()
}

// Ready is closed when apps that ran before are routed to again.
func (p *Platform) Ready() <-chan struct{} { return p.controller.Ready() }

// Traits say how apps run here.
func (p *Platform) Traits() runner.Traits { return p.cfg.Runner.Traits() }

// sweep goes on with the destruction of apps that a crash interrupted, and makes formations
// of apps that have none yet.
func (p *Platform) sweep(ctx context.Context) error {
	select {
	case <-p.controller.Ready():
	case <-ctx.Done():
		return nil
	}
	apps, err := p.catalog.Apps(ctx, "1 = 1")
	for _, a := range apps {
		if a.Destroying {
			err = errors.Join(err, p.free(ctx, a))
		} else {
			err = errors.Join(err, p.controller.Add(ctx, a))
		}
	}
	if err != nil && ctx.Err() == nil {
		p.cfg.Log.Error("could not put apps in order after the start", "err", err)
	}
	return nil
}

// Host is the name below which an app answers by itself.
func (p *Platform) Host(a catalog.App) string { return a.Name + "." + p.cfg.Domain }

// URL is where an app answers.
func (p *Platform) URL(a catalog.App) string { return p.cfg.Mesh.URL(p.Host(a)) }

// GitURL is the address of an app's own remote.
func (p *Platform) GitURL(a catalog.App) string { return p.cfg.SSHURL + "/" + a.Name + ".git" }

func object(a catalog.App) identity.Object {
	return identity.Object{Kind: Kind, ID: a.ID, OwnerID: a.Owner, Visibility: identity.Private}
}

// App finds an app for someone who wants to do something with it.
func (p *Platform) App(ctx context.Context, who identity.Who, act identity.Action, name string) (catalog.App, error) {
	a, err := p.catalog.App(ctx, name)
	if err != nil {
		return catalog.App{}, err
	}
	if err := p.cfg.Identity.Check(ctx, who, act, object(a)); err != nil {
		return catalog.App{}, hidden(err)
	}
	return a, nil
}

func (p *Platform) remote(a catalog.App) remote.Remote {
	return remote.Remote{Dir: filepath.Join(p.cfg.Dir, "remotes", a.Key()+".git")}
}

// checkout writes the files of a commit of an app and tells when it was committed.
func (p *Platform) checkout(ctx context.Context, a catalog.App, commit, dir string) (time.Time, error) {
	if a.Repo != 0 {
		return p.cfg.Source.Checkout(ctx, a.Repo, commit, dir)
	}
	return p.remote(a).Checkout(ctx, commit, dir)
}

// OwnerName is the name of an app's owner.
func (p *Platform) OwnerName(ctx context.Context, a catalog.App) (string, error) {
	o, err := p.cfg.Identity.OwnerByID(ctx, a.Owner)
	if err != nil {
		return "", fmt.Errorf("find the owner of %s: %w", a.Name, err)
	}
	return o.Name, nil
}

// Counts is how many instances of each process type shall run.
func (p *Platform) Counts(ctx context.Context, a catalog.App) (formation.Formation, error) {
	return p.controller.Formation(ctx, a)
}
