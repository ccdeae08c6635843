// Package apps makes running apps of what people push.
//
// An app is a name below the domain, a source (a branch of a repository, or a git remote of
// its own), a configuration, builds, numbered releases and a formation: how many instances
// of each process type run. A push becomes a build, the build with the configuration a
// release, and the release is started beside the one that serves; when it is ready requests
// go to it, and when it is not the old one never noticed. A rollback is a new release.
//
// People come through four doors: the Deis controller API (package apps/internal/deis has
// what is served and added), the pages below /-/apps, the git remotes, and SSH commands.
// Records lie in SQL, intentions in etcd; everything acknowledged survives kill -9, and apps
// run on while the server is away. What runs instances is a Runner: containers, or plain
// processes of the host without isolation.
package apps

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan.dev/sampan/apps/internal/contain"
	"sampan.dev/sampan/apps/internal/deis"
	"sampan.dev/sampan/apps/internal/page"
	"sampan.dev/sampan/apps/internal/platform"
	"sampan.dev/sampan/apps/internal/process"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/build"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/mesh"
	"sampan.dev/sampan/web"
)

// Config is what Apps stand on. Everything but Version and Log is required.
type Config struct {
	Dir      string // for remotes, transcripts and trees
	Domain   string
	SSHURL   string // of the SSH door, as in ssh://git@localhost:2222
	Version  string // of the platform, x.y.z
	DB       *db.DB
	Identity *identity.Service
	UI       *ui.UI
	KV       *clientv3.Client
	Mesh     *mesh.Mesh
	Builder  *build.Builder
	Runner   Runner
	Secret   *secret.Box
	Source   Source
	Log      *slog.Logger
}

type (
	// A Runner starts, finds and ends instances.
	Runner = runner.Runner
	// A Source is where repositories are.
	Source = platform.Source
	// A Push is one that a forge has accepted, or is about to.
	Push = platform.Push
	// An Update moves one ref.
	Update = platform.Update
	// Streams attach a one-off program to its user.
	Streams = runner.Streams
	// A Size is a terminal's.
	Size = runner.Size
)

// Apps is all apps of one installation. It is safe for concurrent use.
type Apps struct {
	platform *platform.Platform
	api      *deis.API
	pages    *page.Pages
}

// OpenContainers makes the Runner that starts containers on an engine.
func OpenContainers(ctx context.Context, e *engine.Engine) (Runner, error) {
	return contain.New(ctx, e)
}

// OpenProcesses makes the Runner that starts plain processes of the host; what they need is
// kept in dir. close ends the Runner and leaves the processes alone.
func OpenProcesses(ctx context.Context, dir string, log *slog.Logger) (r Runner, close func() error, err error) {
	p, err := process.Open(ctx, dir, log)
	if err != nil {
		return nil, nil, err
	}
	return p, p.Close, nil
}

// Open migrates; nothing starts before Run.
func Open(ctx context.Context, cfg Config) (*Apps, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = "0.0.0"
	}
	p, err := platform.Open(ctx, platform.Config{
		Dir: cfg.Dir, Domain: cfg.Domain, SSHURL: cfg.SSHURL, DB: cfg.DB, Identity: cfg.Identity, KV: cfg.KV, Mesh: cfg.Mesh,
		Builder: cfg.Builder, Runner: cfg.Runner, Secret: cfg.Secret, Source: cfg.Source, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	pages, err := page.New(p, cfg.UI, cfg.Log)
	if err != nil {
		return nil, err
	}
	return &Apps{platform: p, api: deis.New(p, cfg.Identity, cfg.Version, cfg.Log), pages: pages}, nil
}

// Run adopts what runs, goes on with what was interrupted, and works until ctx ends. Apps run
// on after it.
func (a *Apps) Run(ctx context.Context) error { return a.platform.Run(ctx) }

// Ready is closed when requests reach every app that ran before.
func (a *Apps) Ready() <-chan struct{} { return a.platform.Ready() }

// Close releases what Open took.
func (a *Apps) Close() error { return nil }

// Routes adds the pages below /-/apps.
func (a *Apps) Routes(app *web.App) { a.pages.Routes(app) }

// API is the Deis controller API, for the host deis.DOMAIN.
func (a *Apps) API() http.Handler { return a.api }

// Pushed records that apps which follow what was pushed are to be deployed. It is for the
// event of a push and may be called more than once.
func (a *Apps) Pushed(ctx context.Context, p Push) error { return a.platform.Pushed(ctx, p) }

// Follow does the same and writes what happens to out until the deploys have ended.
func (a *Apps) Follow(ctx context.Context, p Push, out io.Writer) error {
	return a.platform.Follow(ctx, p, out)
}

// Remote is the directory of the bare repository that an app has of its own.
func (a *Apps) Remote(ctx context.Context, who identity.Who, name string, write bool) (dir string, err error) {
	return a.platform.Remote(ctx, who, name, write)
}

// Gate builds and deploys what is pushed to an app's own remote, before the ref moves. env
// lets git see the pushed objects. An error refuses the push; out has the reason.
func (a *Apps) Gate(ctx context.Context, name string, p Push, env []string, out io.Writer) error {
	return a.platform.Gate(ctx, name, p, env, out)
}

// Console runs the SSH commands "run APP COMMAND", "logs APP [-f]" and "ps APP".
func (a *Apps) Console(ctx context.Context, who identity.Who, args []string, s Streams) (exit int, handled bool, err error) {
	exit, handled, err = a.platform.Console(ctx, who, args, s)
	if errors.Is(err, context.Canceled) {
		err = fault.Unavailable("the connection ended")
	}
	return exit, handled, err
}
