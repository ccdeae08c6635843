package forge

import (
	"net/http"
	"strings"

	"sampan.dev/sampan/forge/internal/account"
	"sampan.dev/sampan/forge/internal/browse"
	"sampan.dev/sampan/forge/internal/giteaapi"
	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/forge/internal/smarthttp"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

// addPages gives the slices' pages to the UI, which wants them before it serves.
func (f *Forge) addPages() (err error) {
	if err := repo.AddPages(f.cfg.UI); err != nil {
		return err
	}
	secure := strings.HasPrefix(f.cfg.HTTPURL, "https://")
	if f.account, err = account.New(f.cfg.Identity, f.cfg.UI, secure); err != nil {
		return err
	}
	f.browser, err = browse.New(browse.Config{Repos: f.repos, Identity: f.cfg.Identity, UI: f.cfg.UI, URLs: f.cloneURLs})
	return err
}

// Routes adds pages, the API and git's door to app. The pages are for a UI whose
// middleware has found out who asks.
func (f *Forge) Routes(app *web.App) {
	repo.NewPages(f.repos, f.cfg.UI).Routes(app)
	f.account.Routes(app)
	f.browser.Routes(app)
	giteaapi.New(giteaapi.Config{
		Repos: f.repos, Identity: f.cfg.Identity, URL: strings.TrimSuffix(f.cfg.HTTPURL, "/"), Clone: f.cloneURLs, Who: f.who,
	}).Routes(app)
	smarthttp.New(smarthttp.Config{Log: f.cfg.Log, Who: f.who, Find: f.find, Push: f.pushes}).Routes(app)
}

// who is whom the middleware found, or finds it for an app that has none.
func (f *Forge) who(r *http.Request) (identity.Who, error) {
	if who := identity.Of(r); !who.Stranger() {
		return who, nil
	}
	return f.cfg.Identity.Authenticate(r)
}
