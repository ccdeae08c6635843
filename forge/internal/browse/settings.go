package browse

import (
	"net/http"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

// settingsPage is what whoever manages the repository may change.
type settingsPage struct {
	head
	Form     settingsForm
	Errors   map[string]string
	Branches []git.Branch
	People   []identity.Grant
	Person   string // typed into the form of people
}

type settingsForm struct {
	Name        string              `form:"name" max:"100"`
	Description string              `form:"description" max:"500"`
	Visibility  identity.Visibility `form:"visibility"`
	Default     string              `form:"default" max:"200"`
}

func (b *Browser) settings(w http.ResponseWriter, r *http.Request) error {
	h, g, err := b.open(r, identity.Manage, "settings")
	if err != nil {
		return err
	}
	form := settingsForm{Name: h.Repo.Name, Description: h.Repo.Description, Visibility: h.Repo.Visibility, Default: h.Repo.Default}
	return b.showSettings(w, r, http.StatusOK, settingsPage{head: h, Form: form}, g)
}

func (b *Browser) showSettings(w http.ResponseWriter, r *http.Request, status int, page settingsPage, g git.Repo) (err error) {
	if page.Branches, err = g.Branches(r.Context(), false, 200); err != nil {
		return err
	}
	if page.People, err = b.cfg.Identity.Grants(r.Context(), identity.Of(r), page.Repo.Object()); err != nil {
		return err
	}
	return b.cfg.UI.RenderStatus(w, r, status, "repo-settings", page)
}

func (b *Browser) saveSettings(w http.ResponseWriter, r *http.Request) error {
	h, g, err := b.open(r, identity.Manage, "settings")
	if err != nil {
		return err
	}
	form := settingsForm{Visibility: h.Repo.Visibility, Default: h.Repo.Default}
	if err = web.Bind(r, &form); err == nil {
		var changed repo.Repo
		changed, err = b.cfg.Repos.Update(r.Context(), identity.Of(r), h.Repo.ID, repo.Changes{
			Name: &form.Name, Description: &form.Description, Visibility: &form.Visibility, Default: &form.Default,
		})
		if err == nil {
			web.Flash(r, "done", web.LocaleOf(r).T("repo.settings.saved"))
			return web.Redirect(w, r, "/"+changed.Path()+"/settings")
		}
	}
	errs, ok := ui.FormErrors(err)
	if !ok {
		return err
	}
	return b.showSettings(w, r, http.StatusUnprocessableEntity, settingsPage{head: h, Form: form, Errors: errs}, g)
}

// addPerson lets somebody else in.
func (b *Browser) addPerson(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Person string `form:"person" required:"true" max:"100"`
		Role   string `form:"role" max:"20"`
	}
	h, g, err := b.open(r, identity.Manage, "settings")
	if err != nil {
		return err
	}
	if err = web.Bind(r, &in); err == nil {
		err = b.grant(r, h.Repo, in.Person, in.Role)
	}
	if err == nil {
		return web.Redirect(w, r, h.Base+"/settings")
	}
	f, ok := fault.Of(err)
	if !ok {
		return err
	}
	form := settingsForm{Name: h.Repo.Name, Description: h.Repo.Description, Visibility: h.Repo.Visibility, Default: h.Repo.Default}
	page := settingsPage{head: h, Form: form, Person: in.Person, Errors: map[string]string{"person": f.Error()}}
	return b.showSettings(w, r, http.StatusUnprocessableEntity, page, g)
}

func (b *Browser) grant(r *http.Request, to repo.Repo, name, role string) error {
	who := identity.Of(r)
	parsed, err := identity.ParseRole(role)
	if err != nil {
		return err
	}
	person, err := b.cfg.Identity.Person(r.Context(), who, name)
	if err != nil {
		return err
	}
	return b.cfg.Identity.Grant(r.Context(), who, to.Object(), identity.Subject{Person: person.ID}, parsed)
}

func (b *Browser) removePerson(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Person int64 `form:"person"`
		Team   int64 `form:"team"`
	}
	h, _, err := b.open(r, identity.Manage, "settings")
	if err != nil {
		return err
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	from := identity.Subject{Person: in.Person, Team: in.Team}
	if err := b.cfg.Identity.Revoke(r.Context(), identity.Of(r), h.Repo.Object(), from); err != nil {
		return err
	}
	return web.Redirect(w, r, h.Base+"/settings")
}

// delete wants the name typed: there is no way back.
func (b *Browser) delete(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Confirm string `form:"confirm" max:"200"`
	}
	h, _, err := b.open(r, identity.Manage, "settings")
	if err != nil {
		return err
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	if in.Confirm != h.Repo.Path() {
		return fault.Invalid("what you typed is not %s, so nothing was deleted", h.Repo.Path()).On("confirm")
	}
	if err := b.cfg.Repos.Delete(r.Context(), identity.Of(r), h.Repo.ID); err != nil {
		return err
	}
	web.Flash(r, "done", web.LocaleOf(r).T("repo.deleted", h.Repo.Path()))
	return web.Redirect(w, r, "/")
}
