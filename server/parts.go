package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"sampan.dev/sampan/apps"
	"sampan.dev/sampan/build"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/forge"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/kv"
	"sampan.dev/sampan/mesh"
	"sampan.dev/sampan/web"
)

// A lifetime is what the server needs to know of an open part.
type lifetime struct {
	name  string
	run   func(context.Context) error
	close func() error
}

// parts are the parts of Sampan, from the lowest floor up.
type parts struct {
	cfg      Config
	secret   *secret.Box
	db       *db.DB
	identity *identity.Service
	events   *event.Bus
	ui       *ui.UI
	web      *web.App
	kv       *kv.KV
	engine   *engine.Engine // nil where containers cannot run
	mesh     *mesh.Mesh
	build    *build.Builder
	forge    *forge.Forge
	apps     *apps.Apps

	opened     []lifetime
	runnerSays string // how apps run, for people
	dockerAt   string // path of the socket for Docker's clients
}

func (p *parts) dir(name string) string { return filepath.Join(p.cfg.Data, name) }

// opens records an open part, so that Run runs it and Close closes it.
func (p *parts) opens(name string, run func(context.Context) error, close func() error) {
	p.opened = append(p.opened, lifetime{name, run, close})
}

// open opens the floors one after the other.
func (p *parts) open(ctx context.Context) error {
	floors := []struct {
		name string
		open func(context.Context) error
	}{
		{"records", p.openRecords},
		{"front door", p.openMesh},
		{"kv", p.openKV},
		{"engine", p.openEngine},
		{"build", p.openBuild},
		{"docker", p.openDocker},
		{"forge", p.openForge},
		{"apps", p.openApps},
	}
	for _, f := range floors {
		if err := f.open(ctx); err != nil {
			if _, ok := fault.Of(err); ok {
				return err
			}
			return fmt.Errorf("open %s: %w", f.name, err)
		}
	}
	return nil
}

// close closes what was opened, the highest floor first.
func (p *parts) close() error {
	var errs []error
	for _, l := range slices.Backward(p.opened) {
		if l.close == nil {
			continue
		}
		if err := l.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", l.name, err))
		}
	}
	p.opened = nil
	return errors.Join(errs...)
}

// openRecords opens floors 1 and 2: rows, people, events, the look.
func (p *parts) openRecords(ctx context.Context) (err error) {
	if p.secret, err = secret.Open(p.dir("secret.key")); err != nil {
		return err
	}
	if p.db, err = db.Open(ctx, db.Config{URL: databaseURL(p.cfg), Log: p.cfg.Log}); err != nil {
		return err
	}
	p.opens("db", nil, p.db.Close)
	if p.identity, err = identity.Open(ctx, identity.Config{DB: p.db, Secret: p.secret, Log: p.cfg.Log}); err != nil {
		return err
	}
	p.opens("identity", p.identity.Run, p.identity.Close)
	if p.events, err = event.Open(ctx, event.Config{DB: p.db, Log: p.cfg.Log}); err != nil {
		return err
	}
	p.opens("events", p.events.Run, p.events.Close)
	p.ui = ui.New(ui.Config{Dev: p.cfg.Dev, Log: p.cfg.Log, Secure: p.cfg.HTTPS != ""})
	p.web = web.New(web.Config{
		Log:   p.cfg.Log,
		Keys:  [][]byte{p.secret.Derive("cookies")},
		Dev:   p.cfg.Dev,
		Error: p.ui.Error,
	})
	return nil
}

func trusted(cfg Config) []string {
	return strings.FieldsFunc(cfg.Trusted, func(r rune) bool { return r == ',' || r == ' ' })
}

// acme is nil where no address for the authority is set.
func acme(cfg Config) *mesh.ACME {
	if cfg.ACMEEmail == "" {
		return nil
	}
	return &mesh.ACME{Email: cfg.ACMEEmail, Directory: cfg.ACMEDirectory, Roots: cfg.ACMERoots}
}

func (p *parts) openMesh(ctx context.Context) (err error) {
	p.mesh, err = mesh.Open(ctx, mesh.Config{
		Addr:     p.cfg.HTTP,
		TLSAddr:  p.cfg.HTTPS,
		Domain:   p.cfg.Domain,
		CertFile: p.cfg.TLSCert,
		KeyFile:  p.cfg.TLSKey,
		ACME:     acme(p.cfg),
		Dir:      p.dir("mesh"),
		Trusted:  trusted(p.cfg),
		Log:      p.cfg.Log,
	})
	if err != nil {
		return err
	}
	p.opens("mesh", p.mesh.Run, p.mesh.Close)
	return nil
}

func kvConfig(cfg Config) kv.Config {
	return kv.Config{
		Dir:       filepath.Join(cfg.Data, "kv"),
		ClientURL: "http://" + cfg.KVClient,
		PeerURL:   "http://" + cfg.KVPeer,
		Log:       cfg.Log,
	}
}

func (p *parts) openKV(ctx context.Context) (err error) {
	p.kv, err = kv.Open(ctx, kvConfig(p.cfg))
	if err != nil {
		return err
	}
	p.opens("kv", p.kv.Run, p.kv.Close)
	return nil
}

// openEngine decides how apps run, and opens the engine where it can.
func (p *parts) openEngine(ctx context.Context) error {
	p.runnerSays = "as plain processes: no isolation"
	if p.cfg.Runner == "processes" {
		return nil
	}
	if why := noContainers(ctx); why != "" {
		if p.cfg.Runner == "containers" {
			return fault.Unavailable("containers cannot run here: %s", why).Try("see: sampan doctor; or set the runner to processes")
		}
		p.cfg.Log.Warn("containers cannot run here; apps run as plain processes, without isolation", "why", why)
		return nil
	}
	var err error
	if p.engine, err = engine.Open(ctx, engine.Config{Dir: p.dir("engine"), Log: p.cfg.Log}); err != nil {
		return err
	}
	p.opens("engine", p.engine.Run, p.engine.Close)
	p.runnerSays = "in containers"
	return nil
}

// noContainers says what is missing for containers, or nothing.
func noContainers(ctx context.Context) string {
	if runtime.GOOS != "linux" {
		return "they need Linux"
	}
	if os.Getuid() != 0 {
		return "they need root"
	}
	var missing []string
	for _, c := range engine.Probe(ctx) {
		if !c.OK && !c.Optional {
			missing = append(missing, c.Name+": "+c.Detail)
		}
	}
	return strings.Join(missing, "; ")
}

func (p *parts) openBuild(ctx context.Context) (err error) {
	p.build, err = build.Open(ctx, build.Config{Engine: p.engine, Dir: p.dir("build"), Log: p.cfg.Log})
	if err != nil {
		return err
	}
	p.opens("build", p.build.Run, p.build.Close)
	return nil
}

func (p *parts) openForge(ctx context.Context) (err error) {
	p.forge, err = forge.Open(ctx, forge.Config{
		Dir:      p.cfg.Data,
		SSHAddr:  p.cfg.SSH,
		HTTPURL:  p.webURL(),
		SSHURL:   p.sshURL(),
		DB:       p.db,
		Identity: p.identity,
		Events:   p.events,
		UI:       p.ui,
		Secret:   p.secret,
		Log:      p.cfg.Log,
	})
	if err != nil {
		return err
	}
	p.opens("forge", p.forge.Run, p.forge.Close)
	return nil
}

func (p *parts) openApps(ctx context.Context) error {
	r, err := p.openRunner(ctx)
	if err != nil {
		return err
	}
	p.apps, err = apps.Open(ctx, apps.Config{
		Dir:      p.dir("apps"),
		Domain:   p.cfg.Domain,
		SSHURL:   p.sshURL(),
		DB:       p.db,
		Identity: p.identity,
		UI:       p.ui,
		KV:       p.kv.Client(),
		Mesh:     p.mesh,
		Builder:  p.build,
		Runner:   r,
		Secret:   p.secret,
		Source:   source{p.forge},
		Log:      p.cfg.Log,
	})
	if err != nil {
		return err
	}
	p.opens("apps", p.apps.Run, p.apps.Close)
	return nil
}

// openRunner opens what runs apps: containers where there is an engine.
func (p *parts) openRunner(ctx context.Context) (apps.Runner, error) {
	if p.engine != nil {
		return apps.OpenContainers(ctx, p.engine)
	}
	r, end, err := apps.OpenProcesses(ctx, p.dir("processes"), p.cfg.Log)
	if err != nil {
		return nil, err
	}
	p.opens("processes", nil, end)
	return r, nil
}

// webURL is the address of the pages.
func (p *parts) webURL() string { return p.mesh.URL(p.cfg.Domain) }

// appURL is where an app is served.
func (p *parts) appURL(name string) string { return p.mesh.URL(name + "." + p.cfg.Domain) }

// sshURL is the address of the SSH door, without a path.
func (p *parts) sshURL() string {
	_, port, err := net.SplitHostPort(p.cfg.SSH)
	if err != nil || port == "22" {
		return "ssh://git@" + p.cfg.Domain
	}
	return "ssh://git@" + net.JoinHostPort(p.cfg.Domain, port)
}
