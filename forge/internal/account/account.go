// Package account is the pages of one's own account: the first set-up, signing in and
// out, and the settings of a person: profile, password, SSH keys, tokens.
//
// A one-time link is redeemed by a button, not by opening it: mail scanners and browsers
// open links ahead of people. Secrets that are shown once (a new token) are in the answer
// to the form that made them and nowhere else.
package account

import (
	"embed"
	"net/http"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

//go:embed *.html
var pages embed.FS

//go:embed en.json zh.json
var messages embed.FS

// Pages serves the account pages.
type Pages struct {
	identity *identity.Service
	ui       *ui.UI
	secure   bool // the site is reached by TLS
}

// New adds the pages to the UI. secure says that people reach the site by TLS.
func New(s *identity.Service, u *ui.UI, secure bool) (*Pages, error) {
	return &Pages{s, u, secure}, u.Add(pages, messages)
}

// Routes adds the addresses.
func (p *Pages) Routes(app *web.App) {
	app.Handle("GET /-/setup", p.setupForm)
	app.Handle("POST /-/setup", p.setup)
	app.Handle("GET /-/sign-in", p.signInForm)
	app.Handle("POST /-/sign-in", p.signIn)
	app.Handle("POST /-/sign-out", p.signOut)
	app.Handle("GET /-/enter", p.enterForm)
	app.Handle("POST /-/enter", p.enter)
	app.Handle("GET /-/settings", p.profileForm)
	app.Handle("POST /-/settings", p.profile)
	app.Handle("GET /-/settings/password", p.passwordForm)
	app.Handle("POST /-/settings/password", p.password)
	app.Handle("POST /-/settings/sign-out", p.signOutEverywhere)
	app.Handle("GET /-/settings/keys", p.keysForm)
	app.Handle("POST /-/settings/keys", p.addKey)
	app.Handle("POST /-/settings/keys/remove", p.removeKey)
	app.Handle("GET /-/settings/tokens", p.tokensForm)
	app.Handle("POST /-/settings/tokens", p.addToken)
	app.Handle("POST /-/settings/tokens/revoke", p.revokeToken)
}

type setupPage struct {
	Code   string
	Name   string
	Email  string
	Errors map[string]string
}

// setupForm makes the first account. Its link is printed at the first start.
func (p *Pages) setupForm(w http.ResponseWriter, r *http.Request) error {
	code, err := p.identity.SetupCode(r.Context())
	if err != nil {
		return err
	}
	if code == "" {
		return web.Redirect(w, r, "/-/sign-in")
	}
	return p.ui.Render(w, r, "account-setup", setupPage{Code: r.URL.Query().Get("code")})
}

func (p *Pages) setup(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Code     string `form:"code" max:"200"`
		Name     string `form:"name" max:"100"`
		Email    string `form:"email" max:"200"`
		Password string `form:"password" max:"1000"`
	}
	err := web.Bind(r, &in)
	if err == nil {
		_, err = p.identity.Setup(r.Context(), in.Code, identity.NewPerson{Name: in.Name, Email: in.Email, Password: in.Password})
	}
	if err == nil {
		var session string
		if session, err = p.identity.SignIn(r.Context(), in.Name, in.Password, r.RemoteAddr); err == nil {
			p.remember(w, r, session)
			return web.Redirect(w, r, "/")
		}
	}
	errs, ok := formErrors(err, "code")
	if !ok {
		return err
	}
	return p.ui.RenderStatus(w, r, http.StatusUnprocessableEntity, "account-setup", setupPage{in.Code, in.Name, in.Email, errs})
}

// formErrors is ui.FormErrors, and takes what is refused with another status as the
// mistake of one field.
func formErrors(err error, field string) (map[string]string, bool) {
	if errs, ok := ui.FormErrors(err); ok {
		return errs, true
	}
	if f, ok := fault.Of(err); ok && f.Kind != fault.KindUnavailable && f.Kind != fault.KindFull {
		return map[string]string{field: f.Error()}, true
	}
	return nil, false
}

func (p *Pages) remember(w http.ResponseWriter, r *http.Request, session string) {
	identity.SetCookie(w, session, p.secure || r.TLS != nil)
}

type signInPage struct {
	Name   string
	Next   string
	Error  string
	First  bool // nobody has an account yet
	Status int
}

func (p *Pages) signInForm(w http.ResponseWriter, r *http.Request) error {
	next := web.LocalPath(r.URL.Query().Get("next"))
	if !identity.Of(r).Stranger() {
		return web.Redirect(w, r, next)
	}
	code, err := p.identity.SetupCode(r.Context())
	if err != nil {
		return err
	}
	return p.ui.Render(w, r, "account-sign-in", signInPage{Next: next, First: code != ""})
}

func (p *Pages) signIn(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name     string `form:"name" max:"100"`
		Password string `form:"password" max:"1000"`
		Next     string `form:"next" max:"2000"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	session, err := p.identity.SignIn(r.Context(), in.Name, in.Password, r.RemoteAddr)
	if f, ok := fault.Of(err); ok && (f.Kind == fault.KindSignIn || f.Kind == fault.KindTooMany) {
		return p.ui.RenderStatus(w, r, f.HTTPStatus(), "account-sign-in", signInPage{Name: in.Name, Next: in.Next, Error: f.Error()})
	}
	if err != nil {
		return err
	}
	p.remember(w, r, session)
	return web.Redirect(w, r, web.LocalPath(in.Next))
}

func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) error {
	if session := identity.SessionIn(r); session != "" {
		if err := p.identity.SignOut(r.Context(), session); err != nil {
			return err
		}
	}
	identity.ClearCookie(w)
	web.SessionOf(r).Clear()
	return web.Redirect(w, r, "/-/sign-in")
}

// enterForm shows the button of a one-time link.
func (p *Pages) enterForm(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Referrer-Policy", "no-referrer")
	return p.ui.Render(w, r, "account-enter", struct{ Code, Next string }{r.URL.Query().Get("code"), web.LocalPath(r.URL.Query().Get("next"))})
}

func (p *Pages) enter(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Code string `form:"code" max:"200"`
		Next string `form:"next" max:"2000"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	session, err := p.identity.Redeem(r.Context(), in.Code)
	if err != nil {
		return err
	}
	p.remember(w, r, session)
	return web.Redirect(w, r, web.LocalPath(in.Next))
}
