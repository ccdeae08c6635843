// Package ui is how Sampan's pages look: the layout, the components, the colours, the icons.
//
// # Adding a page
//
// A slice keeps its pages beside its code and hands them over once, when its part opens:
//
//	//go:embed *.html
//	var pages embed.FS
//	//go:embed en.json zh.json
//	var messages embed.FS
//
//	err := u.Add(pages, messages)
//
// The file issue.html is the page "issue" (names are shared by all parts: take
// "repo-tree", not "tree"; files that begin with "_" are partials for the pages beside them). A
// page defines "title" and "main"; the dot of both is what the handler gave to Render:
//
//	{{define "title"}}{{.Repo.Name}}{{end}}
//	{{define "main"}}
//	<header class="head">
//	  {{template "crumbs" (list (crumb "ann" "/ann") (crumb "site" ""))}}
//	  <h1>{{.Repo.Name}} {{template "badge" (dict "Text" (t "repo.private"))}}</h1>
//	  <p>{{.Repo.About}}</p>
//	  <div class="actions"><a class="button primary" href="…">{{icon "plus"}} {{t "repo.new"}}</a></div>
//	</header>
//	{{template "tabs" (list (tab "Code" "/ann/site" "code" true) (tab "Commits" "…" "commit" false))}}
//	…
//	{{end}}
//
// and may define "width" ("narrow" for a form, "wide" for tables and diffs) and "scripts"
// (<script type="module" src="{{asset "apps/live.js"}}"></script>, a file given to [UI.AddStatic]).
// The handler ends with return u.Render(w, r, "issue", data). For a form with mistakes:
//
//	if errs, ok := ui.FormErrors(err); ok {
//		return u.RenderStatus(w, r, http.StatusUnprocessableEntity, "repo-new", page{form, errs})
//	}
//
// A part of a page alone, for live updates, is u.Fragment(w, r, "app", "instances", data),
// where the page has {{define "instances"}}. Style attributes and inline scripts do not work:
// the Content-Security-Policy forbids them. Keys of messages are common to all parts: begin
// them with the part's name. Texts that many need are here: ui.save, ui.cancel, ui.delete,
// ui.create, ui.edit, ui.remove, ui.name, ui.copy, ui.search, ui.yes, ui.no, ui.none, ui.more,
// ui.newer, ui.older, ui.settings, ui.sign-in, ui.sign-out, ui.repositories, ui.apps.
//
// # Functions
//
//	t "key" args…               the message in the page's language
//	dict "K" v …  list a b …    to give a template several things
//	crumb text url              tab text url icon current    option value text
//	icon "name"                 branch tag commit code file folder link box repo app lock globe user users key gear plus
//	                            minus check cross warn info clock play stop restart undo trash edit copy download
//	                            search terminal log chart pulse cpu memory server anchor book eye menu
//	                            chevron-right chevron-down arrow-right arrow-left sun moon contrast language sign-out rocket
//	asset "ui.css"              the address of a static file
//	ago time                    "3 minutes ago" with the exact time   date time   clock time
//	bytes n  num n  took d      1.5 MiB, 12,300, 1m 5s      percent f  short "sha"
//	avatar "ann"                a coloured square with the initials
//	spark values                a line as high as text     plot Plot  see [Plot]
//	status "running"            dot and word: running starting stopping stopped crashed failed waiting building done unknown
//	plain text                  text without terminal escapes
//
// # Templates
//
// Parameters are keys of dict; those in brackets may be left out.
//
//	crumbs   list of crumb; an empty URL is the present page
//	tabs     list of tab
//	badge    Text [Kind: ok warn bad info] [Icon]
//	alert    Text [Kind: done warn bad info] [Title] [Hint]
//	code     a string: a block with a copy button, for commands too
//	empty    Title [Text] [Command: a string for code] [URL, Label: a button] [Icon]
//	field    Name Label [Value] [Type] [Error] [Help] [Required] [Autofocus] [Autocomplete] [Placeholder] [Pattern] [Max] [Mono] [Prefix]
//	area     Name Label [Value] [Rows] [Error] [Help] [Required] [Mono] [Placeholder]
//	select   Name Label Options (list of option) [Value] [Error] [Help]
//	check    Name Label [Checked] [Value] [Help]      radio    Name Label Value [Current] [Help] [Icon]
//	post     URL Label [Kind: primary danger quiet] [Icon] [Name, Value: a hidden field] [Small]   a button that posts
//	danger   URL Title Text Label [Confirm: what must be typed, sent as "confirm"] [Name, Value]   a destructive act
//	pager    [Newer] [Older]: URLs
//	tree     []ui.TreeRow      diff  []ui.DiffLine
//	log      [Lines: []ui.LogLine] [Stream: URL of events] [Label] [Empty: text] [Tall: bool] [Reload: at the end]
//
// # Classes
//
//	header.head (h1, p, .actions)   section.card (header with h2 and .actions, then .body, table or ul.rows)
//	table.table in div.scroll (td.num, td.fit, td.strong, tr.current)   dl.facts   ul.rows > li (.grow .meta)
//	form.form (button row: .actions)   .button .primary .danger .quiet .small   .badge .ok .warn .bad .info
//	.grid (cards side by side)   .stack (things below each other)   .row (beside each other)
//	.split (main and aside)   .soft .mono .small .nowrap .ellipsis .visually-hidden   .stat (b and span)
//	.markdown (rendered README)   .chroma (chroma with classes; .light and dark come by themselves)
//	pre.code   kbd
//
// # Live pages
//
// Everything works without script. With it: [data-copy="text"] copies; data-stream appends
// the lines of [SendLine]; and
//
//	<div data-refresh="/-/apps/x/instances" data-events="/-/apps/x/events" data-when="instances plots">…</div>
//
// is replaced by the fragment at data-refresh when the stream at data-events (one connection
// for each address on a page) sends an event of one of those names. An event "end" closes a stream.
package ui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"

	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

//go:embed base static messages
var files embed.FS

// staticPrefix is where static files are served.
const staticPrefix = "/-/static/"

// Config is what a UI is made with; its zero value works.
type Config struct {
	Dev    bool // files are read again for each request, from the source tree when there is one
	Log    *slog.Logger
	Secure bool // cookies are Secure even when a request did not come by TLS
}

// UI renders pages. It is safe for concurrent use once all parts have added theirs.
type UI struct {
	cfg       Config
	messages  *web.Messages
	templates *web.Templates
	static    *web.Static
	icons     map[string]template.HTML
}

// New makes a UI with nothing but the base. It panics when its own files are broken.
func New(cfg Config) *UI {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u := &UI{cfg: cfg, messages: web.NewMessages("en", "zh"), static: web.NewStatic(staticPrefix, cfg.Dev)}
	own := u.source(files, 0)
	must(u.messages.Add(sub(own, "messages")))
	must(u.static.Add("", sub(own, "static")))
	icons, err := readIcons(own, "base/icons.txt")
	must(err)
	u.icons = icons
	t, err := web.NewTemplates(web.TemplatesConfig{Base: sub(own, "base"), Funcs: u.funcs, Messages: u.messages, Dev: cfg.Dev, Check: complete})
	must(err)
	u.templates = t
	must(t.Add(sub(own, "base/pages")))
	return u
}

func must(err error) {
	if err != nil {
		panic("ui: " + err.Error())
	}
}

func sub(fsys fs.FS, dir string) fs.FS {
	s, err := fs.Sub(fsys, dir)
	must(err)
	return s
}

// complete refuses a page that the layout cannot show.
func complete(page *template.Template) error {
	for _, name := range []string{"title", "main"} {
		if page.Lookup(name) == nil {
			return fmt.Errorf(`it does not define %q`, name)
		}
	}
	return nil
}

// source is where files are read from: in development the directory that the caller's embed took them from.
func (u *UI) source(fsys fs.FS, skip int) fs.FS {
	if !u.cfg.Dev {
		return fsys
	}
	return web.OnDisk(fsys, skip+1)
}

// Add takes a slice's pages and messages, which lie at the roots of the two file systems;
// either may be nil.
func (u *UI) Add(templates, messages fs.FS) error {
	if messages != nil {
		if err := u.messages.Add(u.source(messages, 1)); err != nil {
			return err
		}
	}
	if templates == nil {
		return nil
	}
	return u.templates.Add(u.source(templates, 1))
}

// AddStatic takes a part's static files; asset "dir/name" is the address of one.
func (u *UI) AddStatic(dir string, fsys fs.FS) error { return u.static.Add(dir, u.source(fsys, 1)) }

// Routes adds the static files and the switches of language and theme, and gives app the messages.
func (u *UI) Routes(app *web.App) {
	app.Locales(u.messages)
	app.Mount(staticPrefix, u.static)
	app.Handle("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) error {
		http.Redirect(w, r, u.static.URL("logo.svg"), http.StatusFound)
		return nil
	})
	app.Handle("POST /-/look", u.look)
}

// Check finds what is wrong with pages and messages before a person does: a message that a
// language lacks, markup that html/template refuses. A test of each part calls it.
func (u *UI) Check() error {
	if err := u.messages.Check(); err != nil {
		return err
	}
	return u.templates.Escape("layout")
}

// page is the dot of the layout.
type page struct {
	Data    any
	Who     identity.Who
	Lang    string
	Theme   string
	Path    string // this page, to come back to
	Section string // the entry of the navigation that the page is below
	Notices []web.Notice
}

// Render answers with a page in its layout.
func (u *UI) Render(w http.ResponseWriter, r *http.Request, name string, data any) error {
	return u.RenderStatus(w, r, http.StatusOK, name, data)
}

// RenderStatus is Render with another status, such as 422 for a form with mistakes.
func (u *UI) RenderStatus(w http.ResponseWriter, r *http.Request, status int, name string, data any) error {
	locale := u.locale(r)
	p := page{Data: data, Who: identity.Of(r), Lang: locale.Lang, Theme: themeOf(r), Path: r.URL.RequestURI(), Section: section(r.URL.Path)}
	if web.RequestID(r.Context()) != "" {
		p.Notices = web.Notices(r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p.Path = web.LocalPath(refererPath(r))
	}
	return u.send(w, status, locale, name, "layout", p)
}

// Fragment answers with one template of a page, without the layout.
func (u *UI) Fragment(w http.ResponseWriter, r *http.Request, name, block string, data any) error {
	return u.send(w, http.StatusOK, u.locale(r), name, block, data)
}

func (u *UI) send(w http.ResponseWriter, status int, locale web.Locale, name, block string, data any) error {
	var b bytes.Buffer
	if err := u.templates.Render(&b, locale.Lang, name, block, data); err != nil {
		return fmt.Errorf("render page %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	secure(h)
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return err
}

// secure sets what keeps a page from being used against the person who looks at it.
func secure(h http.Header) {
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "+
		"img-src 'self' data: http: https:; media-src 'self' http: https:; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
}

// locale works for a request that no App serves, too: Error must always have an answer.
func (u *UI) locale(r *http.Request) web.Locale {
	if l := web.LocaleOf(r); l.Lang != "" {
		return l
	}
	return u.messages.Locale(u.messages.Match(r.Header.Get("Accept-Language")))
}

// section is the entry of the navigation that a path is below.
func section(path string) string {
	switch {
	case strings.HasPrefix(path, "/-/apps"):
		return "apps"
	case strings.HasPrefix(path, "/-/"):
		return ""
	}
	return "repositories"
}
