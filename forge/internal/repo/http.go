package repo

import (
	"embed"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

//go:embed *.html
var pages embed.FS

//go:embed en.json zh.json
var messages embed.FS

const perPage = 30

// AddPages gives the pages to the UI.
func AddPages(u *ui.UI) error { return u.Add(pages, messages) }

// Pages are the lists of repositories and the form for a new one.
type Pages struct {
	repos *Service
	ui    *ui.UI
}

// NewPages makes the pages; AddPages has been called.
func NewPages(s *Service, u *ui.UI) *Pages { return &Pages{s, u} }

// Routes adds the addresses.
func (p *Pages) Routes(app *web.App) {
	app.Handle("GET /{$}", p.home)
	app.Handle("GET /{owner}", p.owner)
	app.Handle("GET /-/new", p.form)
	app.Handle("POST /-/new", p.create)
}

type listPage struct {
	Owner        string // "": everybody
	Repos        []Repo
	Stranger     bool
	CanCreate    bool
	Newer, Older string
}

// home lists what one may see. A stranger who sees nothing is asked to sign in.
func (p *Pages) home(w http.ResponseWriter, r *http.Request) error {
	page := listPage{Stranger: identity.Of(r).Stranger(), CanCreate: !identity.Of(r).Stranger()}
	if err := p.fill(r, &page, 0); err != nil {
		return err
	}
	if page.Stranger && len(page.Repos) == 0 {
		return web.Redirect(w, r, "/-/sign-in")
	}
	return p.ui.Render(w, r, "repo-list", page)
}

// owner lists one owner's. An owner of whom one may see nothing does not exist, except
// for himself.
func (p *Pages) owner(w http.ResponseWriter, r *http.Request) error {
	who := identity.Of(r)
	name := r.PathValue("owner")
	owner, err := p.repos.cfg.Identity.Owner(r.Context(), name)
	if fault.Is(err, fault.KindNotFound) {
		return fault.NotFound("there is nobody called %.100s", name)
	}
	if err != nil {
		return err
	}
	page := listPage{Owner: owner.Name, CanCreate: who.ID == owner.ID}
	if err := p.fill(r, &page, owner.ID); err != nil {
		return err
	}
	if len(page.Repos) == 0 && page.Newer == "" && who.Stranger() {
		return fault.NotFound("there is nobody called %.100s", name)
	}
	return p.ui.Render(w, r, "repo-list", page)
}

func (p *Pages) fill(r *http.Request, page *listPage, owner int64) (err error) {
	var in struct {
		Page int `query:"page"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	in.Page = min(max(in.Page, 1), 10_000)
	filter := Filter{OwnerID: owner, Limit: perPage + 1, Offset: (in.Page - 1) * perPage}
	if page.Repos, err = p.repos.List(r.Context(), identity.Of(r), filter); err != nil {
		return err
	}
	if len(page.Repos) > perPage {
		page.Repos = page.Repos[:perPage]
		page.Older = pageURL(r.URL.Path, in.Page+1)
	}
	if in.Page > 1 {
		page.Newer = pageURL(r.URL.Path, in.Page-1)
	}
	return nil
}

func pageURL(path string, n int) string {
	u := url.URL{Path: path}
	if n > 1 {
		u.RawQuery = "page=" + strconv.Itoa(n)
	}
	return u.String()
}

type newForm struct {
	Owner       string              `form:"owner" max:"100"`
	Name        string              `form:"name" max:"100"`
	Description string              `form:"description" max:"500"`
	Visibility  identity.Visibility `form:"visibility"`
}

type newPage struct {
	Form   newForm
	Owners []string // whom who may create repositories for
	Errors map[string]string
}

func (p *Pages) form(w http.ResponseWriter, r *http.Request) error {
	who := identity.Of(r)
	if who.Stranger() {
		return web.Redirect(w, r, "/-/sign-in?next=/-/new")
	}
	return p.show(w, r, http.StatusOK, newPage{Form: newForm{Owner: who.Name}})
}

func (p *Pages) show(w http.ResponseWriter, r *http.Request, status int, page newPage) error {
	owners, err := p.repos.owners(r.Context(), identity.Of(r))
	if err != nil {
		return err
	}
	page.Owners = owners
	if !slices.Contains(owners, page.Form.Owner) {
		page.Form.Owner = identity.Of(r).Name
	}
	return p.ui.RenderStatus(w, r, status, "repo-new", page)
}

func (p *Pages) create(w http.ResponseWriter, r *http.Request) error {
	var form newForm
	err := web.Bind(r, &form)
	if err == nil {
		var made Repo
		made, err = p.repos.Create(r.Context(), identity.Of(r), New{
			Owner: form.Owner, Name: form.Name, Description: form.Description, Visibility: form.Visibility,
		})
		if err == nil {
			return web.Redirect(w, r, "/"+made.Path())
		}
	}
	errs, ok := ui.FormErrors(err)
	if !ok {
		return err
	}
	return p.show(w, r, http.StatusUnprocessableEntity, newPage{Form: form, Errors: errs})
}
