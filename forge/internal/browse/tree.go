package browse

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

const (
	maxEntries  = 2000                   // of a directory that are shown
	maxReadme   = 512 << 10              // bytes
	lastBound   = 3000                   // commits read for the list of last changes
	lastPatient = 800 * time.Millisecond // time spent on it
)

// treePage is a directory.
type treePage struct {
	head
	Place    place
	Crumbs   []any // nil at the top
	Rows     []ui.TreeRow
	More     int // entries that are not shown
	Latest   git.Commit
	Commits  int
	Branches []git.Branch
	Readme   template.HTML
	Plain    string // a README that is not Markdown
	Setup    string // what to type when the repository is empty
}

// home is the top directory of the default branch, or how to fill an empty repository.
func (b *Browser) home(w http.ResponseWriter, r *http.Request) error {
	h, g, err := b.open(r, identity.View, "code")
	if err != nil {
		return err
	}
	if r.URL.Path != h.Base {
		return web.Redirect(w, r, h.Base) // another case, or .git at the end
	}
	commit, err := g.Resolve(r.Context(), h.Repo.Default)
	if errors.Is(err, git.ErrNotFound) {
		return b.withoutDefault(w, r, h, g)
	}
	if err != nil {
		return err
	}
	return b.showTree(w, r, h, g, place{Rev: h.Repo.Default, Commit: commit})
}

// withoutDefault shows another branch when the default one does not exist, or an empty
// repository.
func (b *Browser) withoutDefault(w http.ResponseWriter, r *http.Request, h head, g git.Repo) error {
	list, err := g.Branches(r.Context(), false, 1)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return web.Redirect(w, r, link(h.Base, "tree", list[0].Name, ""))
	}
	return b.cfg.UI.Render(w, r, "repo-empty", treePage{head: h, Setup: setupCommands(h)})
}

func (b *Browser) tree(w http.ResponseWriter, r *http.Request) error {
	h, g, err := b.open(r, identity.View, "code")
	if err != nil {
		return err
	}
	p, err := locate(r.Context(), g, r.PathValue("rest"))
	if err != nil {
		return err
	}
	h.Rev = p.Rev
	return b.showTree(w, r, h, g, p)
}

func (b *Browser) showTree(w http.ResponseWriter, r *http.Request, h head, g git.Repo, p place) error {
	ctx := r.Context()
	_, entries, err := g.Tree(ctx, p.Commit, p.Path)
	if err != nil {
		return notFound(err, "there is no directory %s in %s", p.Path, p.Rev)
	}
	sortEntries(entries)
	page := treePage{head: h, Place: p}
	if p.Path != "" {
		page.Crumbs = crumbs(h, p)
	}
	if len(entries) > maxEntries {
		page.More, entries = len(entries)-maxEntries, entries[:maxEntries]
	}
	last, err := b.last.of(ctx, g, p, entries)
	if err != nil {
		return err
	}
	page.Rows = treeRows(h, p, entries, last)
	if page.Latest, err = latest(ctx, g, p); err != nil {
		return err
	}
	if p.Path == "" {
		if page.Commits, err = g.CountCommits(ctx, p.Commit, 10_000); err != nil {
			return err
		}
	}
	if page.Branches, err = g.Branches(ctx, false, 50); err != nil {
		return err
	}
	if page.Readme, page.Plain, err = b.readme(ctx, g, h, p, entries); err != nil {
		return err
	}
	return b.cfg.UI.Render(w, r, "repo-tree", page)
}

// latest is the newest commit that touched a path.
func latest(ctx context.Context, g git.Repo, p place) (git.Commit, error) {
	list, err := g.Log(ctx, git.LogOptions{From: p.Commit, Path: p.Path, Limit: 1})
	if err != nil || len(list) == 0 {
		return git.Commit{}, err
	}
	return list[0], nil
}

// sortEntries puts directories first.
func sortEntries(entries []git.Entry) {
	slices.SortStableFunc(entries, func(a, b git.Entry) int {
		if a.Dir() != b.Dir() {
			if a.Dir() {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func treeRows(h head, p place, entries []git.Entry, last map[string]git.Commit) []ui.TreeRow {
	rows := make([]ui.TreeRow, len(entries))
	for i, e := range entries {
		file := strings.TrimPrefix(p.Path+"/"+e.Name, "/")
		row := ui.TreeRow{Name: strings.ToValidUTF8(e.Name, "�"), Kind: "file", URL: link(h.Base, "blob", p.Rev, file)}
		switch {
		case e.Dir():
			row.Kind, row.URL = "dir", link(h.Base, "tree", p.Rev, file)
		case e.Submodule():
			row.Kind, row.URL = "module", ""
		case e.Symlink():
			row.Kind = "link"
		}
		if c, ok := last[e.Name]; ok {
			row.Message, row.MessageURL, row.Time = c.Subject, h.Base+"/commit/"+c.ID, c.Committed
		}
		rows[i] = row
	}
	return rows
}

// readme renders the README of a directory, if it has one.
func (b *Browser) readme(ctx context.Context, g git.Repo, h head, p place, entries []git.Entry) (template.HTML, string, error) {
	for _, e := range entries {
		if !isReadme(e.Name) || e.Dir() || e.Symlink() || e.Submodule() {
			continue
		}
		_, data, err := g.Object(ctx, e.ID, "blob", maxReadme)
		if git.TooLarge(err) {
			return "", "", nil
		}
		if err != nil {
			return "", "", err
		}
		text := strings.ToValidUTF8(string(data), "�")
		if !isMarkdown(e.Name) {
			return "", text, nil
		}
		html, err := b.render.markdown(ctx, e.ID, h.Base, p, p.Path, text)
		if html == "" {
			return "", text, err
		}
		return html, "", err
	}
	return "", "", nil
}

// lastCommits remembers who changed each entry of a directory last: reading history is
// the slowest thing that a page does, and for one commit it never changes.
type lastCommits struct {
	mu    sync.Mutex
	known map[string]map[string]git.Commit // by repository, commit and path
	order []string
}

const lastKept = 256

func newLastCommits() *lastCommits { return &lastCommits{known: map[string]map[string]git.Commit{}} }

func (l *lastCommits) of(ctx context.Context, g git.Repo, p place, entries []git.Entry) (map[string]git.Commit, error) {
	key := g.Dir() + "\x00" + p.Commit + "\x00" + p.Path
	l.mu.Lock()
	found, ok := l.known[key]
	l.mu.Unlock()
	if ok {
		return found, nil
	}
	short, cancel := context.WithTimeout(ctx, lastPatient)
	defer cancel()
	found, err := g.LastCommits(short, p.Commit, p.Path, entries, lastBound)
	if err != nil && short.Err() == nil {
		return nil, err
	}
	if short.Err() != nil {
		return found, ctx.Err() // not all of it: the next one may have more time
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[key]; !ok {
		l.known[key] = found
		l.order = append(l.order, key)
	}
	if len(l.order) > lastKept {
		delete(l.known, l.order[0])
		l.order = l.order[1:]
	}
	return found, nil
}

// isReadme finds the file that introduces a directory.
func isReadme(name string) bool {
	switch strings.ToLower(name) {
	case "readme.md", "readme.markdown", "readme.txt", "readme":
		return true
	}
	return false
}

func isMarkdown(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".md" || ext == ".markdown"
}
