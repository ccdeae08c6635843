package browse

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/markup"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

const (
	commitsPerPage = 30
	maxSkip        = 100_000
)

// A day groups commits in the list.
type day struct {
	Date    string
	Commits []git.Commit
}

// commitsPage is a page of history.
type commitsPage struct {
	head
	Place        place
	Crumbs       []any
	Days         []day
	Branches     []git.Branch
	Newer, Older string
}

func (b *Browser) commits(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Page int `query:"page"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	in.Page = max(in.Page, 1)
	if in.Page*commitsPerPage > maxSkip {
		return fault.Invalid("the list of commits ends at %d", maxSkip).Try("use git log to read further back")
	}
	h, g, err := b.open(r, identity.View, "commits")
	if err != nil {
		return err
	}
	p, err := locate(r.Context(), g, r.PathValue("rest"))
	if err != nil {
		return err
	}
	h.Rev = p.Rev
	list, err := g.Log(r.Context(), git.LogOptions{From: p.Commit, Path: p.Path, Skip: (in.Page - 1) * commitsPerPage, Limit: commitsPerPage + 1})
	if err != nil {
		return err
	}
	page := commitsPage{head: h, Place: p}
	if p.Path != "" {
		page.Crumbs = crumbs(h, p)
	}
	if len(list) > commitsPerPage {
		list = list[:commitsPerPage]
		page.Older = pageURL(r, in.Page+1)
	}
	if in.Page > 1 {
		page.Newer = pageURL(r, in.Page-1)
	}
	page.Days = byDay(list)
	if page.Branches, err = g.Branches(r.Context(), false, 50); err != nil {
		return err
	}
	return b.cfg.UI.Render(w, r, "repo-commits", page)
}

func pageURL(r *http.Request, n int) string {
	u := url.URL{Path: r.URL.Path}
	if n > 1 {
		u.RawQuery = "page=" + strconv.Itoa(n)
	}
	return u.String()
}

func byDay(list []git.Commit) []day {
	var days []day
	for _, c := range list {
		date := c.Committed.Format("2006-01-02")
		if len(days) == 0 || days[len(days)-1].Date != date {
			days = append(days, day{Date: date})
		}
		last := &days[len(days)-1]
		last.Commits = append(last.Commits, c)
	}
	return days
}

// How much of a diff a page shows.
const (
	diffFiles     = 200
	diffFileLines = 800
	diffTime      = 10 * time.Second
	diffLines     = 6000 // over all files; further files are shown closed
	fullLines     = 20_000
)

// A fileView is one file of a diff.
type fileView struct {
	git.FileDiff
	Anchor string
	Rows   []ui.DiffLine
	Closed bool   // not shown, because the page is long enough
	Full   string // address that shows all of it
}

// Renamed tells the page to show both names.
func (f fileView) Renamed() bool { return f.Old != "" && f.New != "" && f.Old != f.New }

// commitPage is one commit with its diff.
type commitPage struct {
	head
	Commit         git.Commit
	Files          []fileView
	More           int
	Cut            bool
	Added, Deleted int
	Tree, Patch    string // addresses
	Only           string // the file that is shown alone
}

func (b *Browser) commit(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		File string `query:"file" max:"4096"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	h, g, err := b.open(r, identity.View, "commits")
	if err != nil {
		return err
	}
	c, err := findCommit(r, g)
	if err != nil {
		return err
	}
	limits := git.DiffLimits{Files: diffFiles, Lines: diffFileLines}
	if in.File != "" {
		limits = git.DiffLimits{Files: 10_000, Lines: fullLines}
	}
	d, err := g.Diff(r.Context(), c, limits)
	if err != nil {
		return err
	}
	page := commitPage{head: h, Commit: c, More: d.More, Cut: d.Cut, Only: in.File,
		Tree: link(h.Base, "tree", c.ID, ""), Patch: h.Base + "/patch/" + c.ID}
	if err := b.views(r.Context(), &page, d); err != nil {
		return err
	}
	return b.cfg.UI.Render(w, r, "repo-commit", page)
}

func findCommit(r *http.Request, g git.Repo) (git.Commit, error) {
	id, err := g.Resolve(r.Context(), r.PathValue("id"))
	if err != nil {
		return git.Commit{}, notFound(err, "there is no commit %.60s", r.PathValue("id"))
	}
	return g.Commit(r.Context(), id)
}

// views highlights the files of a diff, until the page is long enough or has taken long
// enough.
func (b *Browser) views(ctx context.Context, page *commitPage, d git.Diff) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, diffTime, markup.ErrTooHard)
	defer cancel()
	left := diffLines
	for i, f := range d.Files {
		page.Added += f.Added
		page.Deleted += f.Deleted
		if page.Only != "" && page.Only != f.Name() {
			continue
		}
		v := fileView{FileDiff: f, Anchor: "f" + strconv.Itoa(i+1)}
		v.Full = page.Base + "/commit/" + page.Commit.ID + "?file=" + url.QueryEscape(f.Name())
		if page.Only == "" && len(f.Lines) > left {
			v.Closed = true
		} else {
			left -= len(f.Lines)
			if v.Rows, err = b.render.diff(ctx, f); err != nil {
				return err
			}
		}
		page.Files = append(page.Files, v)
	}
	return nil
}

// patch is the commit for git am.
func (b *Browser) patch(w http.ResponseWriter, r *http.Request) error {
	_, g, err := b.open(r, identity.View, "commits")
	if err != nil {
		return err
	}
	c, err := findCommit(r, g)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	return g.WritePatch(r.Context(), c.ID, w)
}

// branchesPage lists branches and tags.
type branchesPage struct {
	head
	Branches, Tags []git.Branch
}

func (b *Browser) branches(w http.ResponseWriter, r *http.Request) error {
	h, g, err := b.open(r, identity.View, "branches")
	if err != nil {
		return err
	}
	page := branchesPage{head: h}
	if page.Branches, err = g.Branches(r.Context(), false, 500); err != nil {
		return err
	}
	if page.Tags, err = g.Branches(r.Context(), true, 500); err != nil {
		return err
	}
	return b.cfg.UI.Render(w, r, "repo-branches", page)
}
