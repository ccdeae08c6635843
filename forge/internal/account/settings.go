package account

import (
	"net/http"

	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

// settingsPage is one of the settings; View tells which.
type settingsPage struct {
	View   string
	Errors map[string]string

	Person identity.Person // profile
	Keys   []identity.Key
	Title  string // typed into the form of keys
	Public string
	Tokens []identity.Token
	Secret string // a token that was just made
	Made   string // its name
	Rights []identity.Right
}

// signedIn sends strangers to the sign-in page and back.
func signedIn(w http.ResponseWriter, r *http.Request) (identity.Who, bool, error) {
	who := identity.Of(r)
	if who.Stranger() {
		return who, false, web.Redirect(w, r, "/-/sign-in?next="+r.URL.Path)
	}
	return who, true, nil
}

func (p *Pages) profileForm(w http.ResponseWriter, r *http.Request) error {
	who, ok, err := signedIn(w, r)
	if !ok {
		return err
	}
	person, err := p.identity.PersonByID(r.Context(), who, who.ID)
	if err != nil {
		return err
	}
	return p.ui.Render(w, r, "account-profile", settingsPage{View: "profile", Person: person})
}

func (p *Pages) profile(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		FullName string `form:"full-name" max:"200"`
		Email    string `form:"email" max:"200"`
		Lang     string `form:"lang" max:"10"`
		Theme    string `form:"theme" max:"10"`
	}
	who := identity.Of(r)
	err := web.Bind(r, &in)
	if err == nil {
		_, err = p.identity.UpdatePerson(r.Context(), who, who.ID, identity.Changes{FullName: &in.FullName, Email: &in.Email, Lang: &in.Lang, Theme: &in.Theme})
	}
	if err == nil {
		p.ui.Remember(w, r, in.Lang, in.Theme)
		return saved(w, r, "/-/settings")
	}
	errs, ok := formErrors(err, "")
	if !ok || who.Stranger() {
		return err
	}
	person := identity.Person{Name: who.Name, FullName: in.FullName, Email: in.Email, Lang: in.Lang, Theme: in.Theme}
	return p.ui.RenderStatus(w, r, http.StatusUnprocessableEntity, "account-profile", settingsPage{View: "profile", Person: person, Errors: errs})
}

func saved(w http.ResponseWriter, r *http.Request, to string) error {
	web.Flash(r, "done", web.LocaleOf(r).T("account.saved"))
	return web.Redirect(w, r, to)
}

func (p *Pages) passwordForm(w http.ResponseWriter, r *http.Request) error {
	if _, ok, err := signedIn(w, r); !ok {
		return err
	}
	return p.ui.Render(w, r, "account-password", settingsPage{View: "password"})
}

func (p *Pages) password(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Old string `form:"old" max:"1000"`
		New string `form:"new" max:"1000"`
	}
	who := identity.Of(r)
	err := web.Bind(r, &in)
	if err == nil {
		err = p.identity.SetPassword(r.Context(), who, who.ID, in.Old, in.New)
	}
	if err == nil {
		// The other sessions have ended with the old password; this browser gets a new one.
		session, err := p.identity.SignIn(r.Context(), who.Name, in.New, r.RemoteAddr)
		if err != nil {
			return err
		}
		p.remember(w, r, session)
		return saved(w, r, "/-/settings/password")
	}
	errs, ok := formErrors(err, "old")
	if !ok || who.Stranger() {
		return err
	}
	return p.ui.RenderStatus(w, r, http.StatusUnprocessableEntity, "account-password", settingsPage{View: "password", Errors: errs})
}

func (p *Pages) signOutEverywhere(w http.ResponseWriter, r *http.Request) error {
	who := identity.Of(r)
	if err := p.identity.SignOutEverywhere(r.Context(), who, who.ID); err != nil {
		return err
	}
	identity.ClearCookie(w)
	return web.Redirect(w, r, "/-/sign-in")
}

func (p *Pages) keysForm(w http.ResponseWriter, r *http.Request) error {
	if _, ok, err := signedIn(w, r); !ok {
		return err
	}
	return p.showKeys(w, r, http.StatusOK, settingsPage{})
}

func (p *Pages) showKeys(w http.ResponseWriter, r *http.Request, status int, page settingsPage) (err error) {
	who := identity.Of(r)
	page.View = "keys"
	if page.Keys, err = p.identity.Keys(r.Context(), who, who.ID); err != nil {
		return err
	}
	return p.ui.RenderStatus(w, r, status, "account-keys", page)
}

func (p *Pages) addKey(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Title string `form:"title" max:"100"`
		Key   string `form:"key" max:"20000"`
	}
	err := web.Bind(r, &in)
	if err == nil {
		_, err = p.identity.AddKey(r.Context(), identity.Of(r), in.Title, in.Key)
	}
	if err == nil {
		return saved(w, r, "/-/settings/keys")
	}
	errs, ok := formErrors(err, "key")
	if !ok || identity.Of(r).Stranger() {
		return err
	}
	return p.showKeys(w, r, http.StatusUnprocessableEntity, settingsPage{Errors: errs, Title: in.Title, Public: in.Key})
}

// numbered is a form with the number of what shall go.
type numbered struct {
	ID int64 `form:"id" required:"true"`
}

func (p *Pages) removeKey(w http.ResponseWriter, r *http.Request) error {
	var in numbered
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	if err := p.identity.RemoveKey(r.Context(), identity.Of(r), in.ID); err != nil {
		return err
	}
	return web.Redirect(w, r, "/-/settings/keys")
}

func (p *Pages) tokensForm(w http.ResponseWriter, r *http.Request) error {
	if _, ok, err := signedIn(w, r); !ok {
		return err
	}
	return p.showTokens(w, r, http.StatusOK, settingsPage{})
}

func (p *Pages) showTokens(w http.ResponseWriter, r *http.Request, status int, page settingsPage) (err error) {
	who := identity.Of(r)
	page.View, page.Rights = "tokens", identity.Rights()
	if page.Tokens, err = p.identity.Tokens(r.Context(), who, who.ID); err != nil {
		return err
	}
	return p.ui.RenderStatus(w, r, status, "account-tokens", page)
}

func (p *Pages) addToken(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name   string   `form:"name" max:"100"`
		Rights []string `form:"right"`
	}
	page := settingsPage{}
	err := web.Bind(r, &in)
	if err == nil {
		var scope *identity.Scope
		if len(in.Rights) > 0 {
			scope = &identity.Scope{}
		}
		for _, right := range in.Rights {
			scope.Rights = append(scope.Rights, identity.Right(right))
		}
		page.Secret, _, err = p.identity.NewToken(r.Context(), identity.Of(r), in.Name, scope)
		page.Made = in.Name
	}
	if err == nil {
		return p.showTokens(w, r, http.StatusOK, page)
	}
	errs, ok := formErrors(err, "name")
	if !ok || identity.Of(r).Stranger() {
		return err
	}
	return p.showTokens(w, r, http.StatusUnprocessableEntity, settingsPage{Errors: errs, Title: in.Name})
}

func (p *Pages) revokeToken(w http.ResponseWriter, r *http.Request) error {
	var in numbered
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	if err := p.identity.RevokeToken(r.Context(), identity.Of(r), in.ID); err != nil {
		return err
	}
	return web.Redirect(w, r, "/-/settings/tokens")
}
