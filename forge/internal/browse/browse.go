// Package browse is the pages of one repository: its files, its commits, its branches
// and its settings.
//
// An address below /OWNER/REPO/ names a view, then a rev and a path with nothing between
// them: tree/feature/x/cmd is the directory cmd of the branch feature/x. Whoever may see
// the repository may see all of them; settings are for who may manage it. Files are shown
// as text in a page; raw ones are sent so that no browser runs them.
package browse

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

//go:embed *.html
var pages embed.FS

//go:embed en.json zh.json
var messages embed.FS

// Config of a Browser.
type Config struct {
	Repos    *repo.Service
	Identity *identity.Service
	UI       *ui.UI
	URLs     func(path string) (ssh, http string) // how to clone
}

// A Browser serves the pages.
type Browser struct {
	cfg    Config
	render *renderer
	last   *lastCommits
}

// New adds the pages to the UI.
func New(cfg Config) (*Browser, error) {
	if err := cfg.UI.Add(pages, messages); err != nil {
		return nil, err
	}
	return &Browser{cfg: cfg, render: newRenderer(), last: newLastCommits()}, nil
}

// Routes adds the addresses.
func (b *Browser) Routes(app *web.App) {
	const at = "/{owner}/{repo}"
	app.Handle("GET "+at, b.home)
	app.Handle("GET "+at+"/tree/{rest...}", b.tree)
	app.Handle("GET "+at+"/blob/{rest...}", b.blob)
	app.Handle("GET "+at+"/raw/{rest...}", b.raw)
	app.Handle("GET "+at+"/commits/{rest...}", b.commits)
	app.Handle("GET "+at+"/commit/{id}", b.commit)
	app.Handle("GET "+at+"/patch/{id}", b.patch)
	app.Handle("GET "+at+"/branches", b.branches)
	app.Handle("GET "+at+"/settings", b.settings)
	app.Handle("POST "+at+"/settings", b.saveSettings)
	app.Handle("POST "+at+"/settings/people", b.addPerson)
	app.Handle("POST "+at+"/settings/people/remove", b.removePerson)
	app.Handle("POST "+at+"/settings/delete", b.delete)
}

// A head is what every page of a repository shows above its own matter.
type head struct {
	Repo      repo.Repo
	Base      string // address of the repository
	View      string // the current tab
	Rev       string // as the address has it; the default branch where it has none
	CanManage bool
	SSH, HTTP string
}

// Private tells the page to show a lock.
func (h head) Private() bool { return h.Repo.Visibility != identity.Public }

// open finds the repository of a request.
func (b *Browser) open(r *http.Request, act identity.Action, view string) (head, git.Repo, error) {
	who := identity.Of(r)
	name := strings.TrimSuffix(r.PathValue("repo"), ".git")
	found, err := b.cfg.Repos.Find(r.Context(), who, act, r.PathValue("owner"), name)
	if err != nil {
		return head{}, git.Repo{}, signInFirst(who, err)
	}
	manage, err := b.cfg.Identity.Can(r.Context(), who, identity.Manage, found.Object())
	if err != nil {
		return head{}, git.Repo{}, err
	}
	h := head{Repo: found, Base: "/" + found.Path(), View: view, Rev: found.Default, CanManage: manage}
	h.SSH, h.HTTP = b.cfg.URLs(found.Path())
	return h, b.cfg.Repos.Git(found.ID), nil
}

// signInFirst adds to a NotFound what a stranger can do about it. It says the same for
// what does not exist.
func signInFirst(who identity.Who, err error) error {
	if f, ok := fault.Of(err); ok && f.Kind == fault.KindNotFound && who.ID == 0 {
		return f.Try("sign in if you think that it exists")
	}
	return err
}

// A place is a commit and a path in it, as an address names them.
type place struct {
	Rev    string // as written: a branch, a tag or an object name
	Commit string
	Path   string // clean; "" is the top
}

// Short is the rev as a button shows it.
func (p place) Short() string {
	if p.Rev == p.Commit {
		return p.Rev[:8]
	}
	return p.Rev
}

// maxDepth is how many parts of an address are tried as a rev.
const maxDepth = 12

// locate takes apart REV/PATH. A rev may have slashes; git allows no branch whose name is
// the beginning of another's, so the first that exists is the only one.
func locate(ctx context.Context, g git.Repo, rest string) (place, error) {
	parts := strings.Split(strings.Trim(rest, "/"), "/")
	for n := 1; n <= min(len(parts), maxDepth); n++ {
		rev := strings.Join(parts[:n], "/")
		id, err := g.Resolve(ctx, rev)
		if err == nil {
			return place{Rev: rev, Commit: id, Path: strings.Join(parts[n:], "/")}, nil
		}
		if !errors.Is(err, git.ErrNotFound) {
			return place{}, err
		}
	}
	return place{}, fault.NotFound("no branch, tag or commit is called %.200q", parts[0]).Try("see the list of branches")
}

// notFound makes git's "not found" the user's.
func notFound(err error, format string, args ...any) error {
	if errors.Is(err, git.ErrNotFound) {
		return fault.NotFound(format, args...).Try("it may be on another branch")
	}
	return err
}

// link is an address below a repository, escaped part by part.
func link(base, view, rev, file string) string {
	u := url.URL{Path: base + "/" + view + "/" + rev}
	if file != "" {
		u.Path += "/" + file
	}
	return u.EscapedPath()
}

// Link is an address below the repository, for templates.
func (h head) Link(view, rev, file string) string { return link(h.Base, view, rev, file) }

// crumbs leads from the repository to a path.
func crumbs(h head, p place) []any {
	list := []any{ui.Crumb{Text: h.Repo.Name, URL: link(h.Base, "tree", p.Rev, "")}}
	parts := strings.Split(p.Path, "/")
	for i, part := range parts {
		c := ui.Crumb{Text: part, URL: link(h.Base, "tree", p.Rev, strings.Join(parts[:i+1], "/"))}
		if i == len(parts)-1 {
			c.URL = ""
		}
		list = append(list, c)
	}
	return list
}

// setupCommands are what one types to fill an empty repository.
func setupCommands(h head) string {
	remote := h.SSH
	if remote == "" {
		remote = h.HTTP
	}
	return fmt.Sprintf("git init -b %s\ngit add .\ngit commit -m \"first commit\"\ngit remote add origin %s\ngit push -u origin %s",
		h.Repo.Default, remote, h.Repo.Default)
}
