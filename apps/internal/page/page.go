// Package page shows apps in the browser: /-/apps and what is below it.
//
// Every page works without script; with it, instances, plots, logs and the output of builds
// are live (server-sent events). What a person may do is decided by the platform.
package page

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/platform"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

//go:embed *.html
var templates embed.FS

//go:embed en.json zh.json
var messages embed.FS

// Pages are the pages below /-/apps.
type Pages struct {
	platform *platform.Platform
	ui       *ui.UI
	log      *slog.Logger
}

// New hands the pages to the site's look.
func New(p *platform.Platform, u *ui.UI, log *slog.Logger) (*Pages, error) {
	if err := u.Add(templates, messages); err != nil {
		return nil, fmt.Errorf("add the pages of apps: %w", err)
	}
	return &Pages{platform: p, ui: u, log: log}, nil
}

// Routes adds the pages.
func (p *Pages) Routes(app *web.App) {
	app.Handle("GET /-/apps", p.list)
	app.Handle("GET /-/apps/new", p.create)
	app.Handle("POST /-/apps", p.make)
	app.Handle("GET /-/apps/{app}", p.show)
	app.Handle("GET /-/apps/{app}/health", p.health)
	app.Handle("GET /-/apps/{app}/instances", p.instances)
	app.Handle("GET /-/apps/{app}/plots", p.plots)
	app.Handle("GET /-/apps/{app}/events", p.events)
	app.Handle("GET /-/apps/{app}/logs", p.logs)
	app.Handle("GET /-/apps/{app}/logs/stream", p.logStream)
	app.Handle("GET /-/apps/{app}/releases", p.releases)
	app.Handle("POST /-/apps/{app}/rollback", p.rollback)
	app.Handle("GET /-/apps/{app}/builds/{build}", p.build)
	app.Handle("GET /-/apps/{app}/builds/{build}/stream", p.buildStream)
	app.Handle("GET /-/apps/{app}/settings", p.settings)
	app.Handle("POST /-/apps/{app}/config", p.setConfig)
	app.Handle("POST /-/apps/{app}/scale", p.scale)
	app.Handle("POST /-/apps/{app}/restart", p.restart)
	app.Handle("POST /-/apps/{app}/deploy", p.deploy)
	app.Handle("POST /-/apps/{app}/source", p.source)
	app.Handle("POST /-/apps/{app}/domains", p.addDomain)
	app.Handle("POST /-/apps/{app}/domains/remove", p.removeDomain)
	app.Handle("POST /-/apps/{app}/destroy", p.destroy)
}

// An app is what the head of each of its pages shows.
type app struct {
	catalog.App
	URL      string
	GitURL   string
	Health   string
	Serving  int // the version of the release that serves; 0: none yet
	Isolated bool
	CanWrite bool
	Tab      string
}

// Path is the address of the app's pages.
func (a app) Path() string { return "/-/apps/" + a.Name }

// find loads what the head shows, for who may see it.
func (p *Pages) find(r *http.Request, tab string) (app, []formation.Instance, formation.Formation, error) {
	who := identity.Of(r)
	if who.Stranger() {
		return app{}, nil, formation.Formation{}, fault.SignIn("sign in to see apps")
	}
	c, instances, err := p.platform.Instances(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return app{}, nil, formation.Formation{}, err
	}
	f, err := p.platform.Counts(r.Context(), c)
	if err != nil {
		return app{}, nil, f, err
	}
	_, err = p.platform.App(r.Context(), who, identity.Write, c.Name)
	if err != nil && !fault.Is(err, fault.KindForbidden) {
		return app{}, nil, f, err
	}
	state, err := p.state(r.Context(), who, c, f, instances)
	if err != nil {
		return app{}, nil, f, err
	}
	return app{
		App: c, URL: p.platform.URL(c), GitURL: p.platform.GitURL(c), Health: state, Serving: f.Release,
		Isolated: p.platform.Traits().Isolated, CanWrite: err == nil, Tab: tab,
	}, instances, f, nil
}

// state is an app's state in one word. As long as nothing serves it is what became of the
// newest attempt.
func (p *Pages) state(ctx context.Context, who identity.Who, c catalog.App, f formation.Formation, instances []formation.Instance) (string, error) {
	if f.Release != 0 || f.Next != 0 {
		return serving(f, instances), nil
	}
	_, builds, err := p.platform.Builds(ctx, who, c.Name, 1)
	switch {
	case err != nil:
		return "", err
	case len(builds) == 0:
		return "waiting", nil
	case unfinished(builds[0]):
		return "building", nil
	}
	return "failed", nil
}

// serving is the state of an app of which something serves or is about to.
func serving(f formation.Formation, instances []formation.Instance) string {
	up, wanted := 0, 0
	for _, n := range f.Counts {
		wanted += n
	}
	for _, in := range instances {
		switch {
		case in.Release != f.Release:
		case in.State == formation.Crashed:
			return "crashed"
		case in.State == formation.Up:
			up++
		}
	}
	switch {
	case f.Next != 0:
		return "starting"
	case wanted == 0:
		return "stopped"
	case up < wanted:
		return "starting"
	}
	return "running"
}

func (p *Pages) list(w http.ResponseWriter, r *http.Request) error {
	found, err := p.platform.Apps(r.Context(), identity.Of(r))
	if err != nil {
		return err
	}
	type row struct {
		app
		Load []float64
		Now  float64
	}
	var rows []row
	for _, c := range found {
		f, err := p.platform.Counts(r.Context(), c)
		if err != nil {
			return err
		}
		_, instances, err := p.platform.Instances(r.Context(), identity.Of(r), c.Name)
		if err != nil {
			return err
		}
		state, err := p.state(r.Context(), identity.Of(r), c, f, instances)
		if err != nil {
			return err
		}
		one := row{app: app{App: c, URL: p.platform.URL(c), Health: state, Serving: f.Release}}
		samples, err := p.platform.Metrics(r.Context(), identity.Of(r), c.Name)
		if err != nil {
			return err
		}
		for _, s := range samples {
			one.Load, one.Now = append(one.Load, s.Requests), s.Requests
		}
		rows = append(rows, one)
	}
	return p.ui.Render(w, r, "app-list", map[string]any{"Apps": rows, "Isolated": p.platform.Traits().Isolated})
}

// A form is what the page for a new app asks.
type form struct {
	Name       string `form:"name"`
	Repository string `form:"repository"`
	Branch     string `form:"branch"`
}

func (p *Pages) create(w http.ResponseWriter, r *http.Request) error {
	if identity.Of(r).Stranger() {
		return fault.SignIn("sign in to create an app")
	}
	f := form{Repository: r.URL.Query().Get("repository"), Branch: "main"}
	return p.ui.Render(w, r, "app-new", map[string]any{"Form": f, "Errors": ui.Errors{}})
}

func (p *Pages) make(w http.ResponseWriter, r *http.Request) error {
	var f form
	if err := web.Bind(r, &f); err != nil {
		return err
	}
	who := identity.Of(r)
	c, err := p.platform.Create(r.Context(), who, strings.TrimSpace(f.Name))
	if err == nil && f.Repository != "" {
		if _, err = p.platform.Link(r.Context(), who, c.Name, strings.TrimSpace(f.Repository), strings.TrimSpace(f.Branch)); err != nil {
			// Without what it was made for the app would only be in the way.
			if gone := p.platform.Destroy(r.Context(), who, c.Name); gone != nil {
				return gone
			}
			if fault.Is(err, fault.KindNotFound) {
				err = fault.NotFound("there is no repository %s", f.Repository).On("repository")
			}
		}
	}
	if f2, ok := fault.Of(err); ok && f2.Field == "id" {
		err = f2.On("name")
	}
	if errs, ok := ui.FormErrors(err); ok {
		return p.ui.RenderStatus(w, r, http.StatusUnprocessableEntity, "app-new", map[string]any{"Form": f, "Errors": errs})
	}
	if err != nil {
		return err
	}
	return web.Redirect(w, r, "/-/apps/"+c.Name)
}

func (p *Pages) show(w http.ResponseWriter, r *http.Request) error {
	a, instances, f, err := p.find(r, "overview")
	if err != nil {
		return err
	}
	_, builds, err := p.platform.Builds(r.Context(), identity.Of(r), a.Name, 1)
	if err != nil {
		return err
	}
	_, releases, err := p.platform.Releases(r.Context(), identity.Of(r), a.Name, 5)
	if err != nil {
		return err
	}
	plots, err := p.drawn(r, a.Name)
	if err != nil {
		return err
	}
	data := map[string]any{
		"App": a, "Instances": rows(f, instances), "Formation": f, "Plots": plots, "Releases": translate(web.LocaleOf(r), releases),
	}
	if len(builds) > 0 {
		data["Build"] = builds[0]
		data["Output"] = p.output(r, a, builds[0])
	}
	return p.ui.Render(w, r, "app", data)
}

// An instanceRow is one instance in words of the ui package.
type instanceRow struct {
	formation.Instance
	Status string
	Next   bool // of the release that is being deployed
}

func rows(f formation.Formation, instances []formation.Instance) []instanceRow {
	words := map[string]string{
		formation.Up: "running", formation.Starting: "starting", formation.Stopping: "stopping", formation.Crashed: "crashed",
	}
	var list []instanceRow
	for _, in := range instances {
		list = append(list, instanceRow{in, words[in.State], in.Release == f.Next})
	}
	return list
}

// health is the state in an app's head, which follows what happens.
func (p *Pages) health(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "overview")
	if err != nil {
		return err
	}
	return p.ui.Fragment(w, r, "app", "app-health", a)
}

func (p *Pages) instances(w http.ResponseWriter, r *http.Request) error {
	a, instances, f, err := p.find(r, "overview")
	if err != nil {
		return err
	}
	return p.ui.Fragment(w, r, "app", "app-instances", map[string]any{"App": a, "Instances": rows(f, instances), "Formation": f})
}

func (p *Pages) plots(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "overview")
	if err != nil {
		return err
	}
	plots, err := p.drawn(r, a.Name)
	if err != nil {
		return err
	}
	return p.ui.Fragment(w, r, "app", "app-plots", map[string]any{"Plots": plots})
}

// events tells the page when to ask again for a part of it.
func (p *Pages) events(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "")
	if err != nil {
		return err
	}
	stream, err := web.NewEvents(w, r)
	if err != nil {
		return err
	}
	tick := time.NewTicker(plotStep)
	defer tick.Stop()
	for {
		name := "instances"
		select {
		case <-p.platform.Changed(a.App):
		case <-tick.C:
			name = "plots"
		case <-r.Context().Done():
			return nil
		}
		if err := stream.Send(name, "", []byte("changed")); err != nil {
			return nil // the browser is gone
		}
	}
}

// back returns to a page of the app with what came of an act.
func (p *Pages) back(w http.ResponseWriter, r *http.Request, page, done string, err error) error {
	path := "/-/apps/" + r.PathValue("app") + page
	f, isFault := fault.Of(err)
	unset, isUnset := err.(*platform.Unset)
	switch {
	case err == nil:
		web.Flash(r, "done", web.LocaleOf(r).T(done))
	case isUnset:
		web.Flash(r, "bad", unset.Error())
	case isFault && !slices.Contains([]fault.Kind{fault.KindNotFound, fault.KindForbidden, fault.KindSignIn}, f.Kind):
		web.Flash(r, "bad", f.Error())
	default:
		return err
	}
	return web.Redirect(w, r, path)
}

func (p *Pages) rollback(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Version int `form:"version"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	_, err := p.platform.Rollback(r.Context(), identity.Of(r), r.PathValue("app"), in.Version)
	return p.back(w, r, "/releases", "app.done.rollback", err)
}

func (p *Pages) releases(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "releases")
	if err != nil {
		return err
	}
	_, releases, err := p.platform.Releases(r.Context(), identity.Of(r), a.Name, 100)
	if err != nil {
		return err
	}
	_, builds, err := p.platform.Builds(r.Context(), identity.Of(r), a.Name, 30)
	if err != nil {
		return err
	}
	return p.ui.Render(w, r, "app-releases", map[string]any{"App": a, "Releases": translate(web.LocaleOf(r), releases), "Builds": builds})
}

func (p *Pages) scale(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return fault.Invalid("the form cannot be read")
	}
	counts := map[string]int{}
	for field, values := range r.PostForm {
		process, ok := strings.CutPrefix(field, "count-")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(values[0])
		if err != nil {
			return p.back(w, r, "", "", fault.Invalid("%q is not a number of instances", values[0]))
		}
		counts[process] = n
	}
	err := p.platform.Scale(r.Context(), identity.Of(r), r.PathValue("app"), counts)
	return p.back(w, r, "", "app.done.scale", err)
}

func (p *Pages) restart(w http.ResponseWriter, r *http.Request) error {
	_, _, err := p.platform.Restart(r.Context(), identity.Of(r), r.PathValue("app"), "", "")
	return p.back(w, r, "", "app.done.restart", err)
}

// deploy leads to the build, where its output appears.
func (p *Pages) deploy(w http.ResponseWriter, r *http.Request) error {
	t, err := p.platform.Redeploy(r.Context(), identity.Of(r), r.PathValue("app"))
	if err != nil {
		return p.back(w, r, "", "", err)
	}
	return web.Redirect(w, r, "/-/apps/"+r.PathValue("app")+"/builds/"+t.Build.UUID)
}
