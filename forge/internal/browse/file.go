package browse

import (
	"context"
	"html/template"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// maxShown is how large a file may be to be shown in a page.
const maxShown = 1 << 20

// filePage is one file.
type filePage struct {
	head
	Place    place
	Crumbs   []any
	Size     int64
	Lines    int
	Latest   git.Commit
	Raw      string // address
	History  string // address
	Code     template.HTML
	Rendered template.HTML // Markdown, unless its source was asked for
	Markdown bool
	Source   bool   // the source of a Markdown file
	Image    bool   // shown by its raw address
	Target   string // of a symbolic link
	Why      string // key of the message that says why nothing is shown
}

func (b *Browser) blob(w http.ResponseWriter, r *http.Request) error {
	h, g, err := b.open(r, identity.View, "code")
	if err != nil {
		return err
	}
	p, err := locate(r.Context(), g, r.PathValue("rest"))
	if err != nil {
		return err
	}
	h.Rev = p.Rev
	e, err := entry(r, g, p)
	if err != nil {
		return err
	}
	if e.Dir() {
		return b.showTree(w, r, h, g, p)
	}
	page := filePage{head: h, Place: p, Crumbs: crumbs(h, p), Raw: link(h.Base, "raw", p.Rev, p.Path),
		History: link(h.Base, "commits", p.Rev, p.Path), Markdown: isMarkdown(p.Path), Source: r.URL.Query().Has("source")}
	if page.Latest, err = latest(r.Context(), g, p); err != nil {
		return err
	}
	if err := b.fill(r, g, &page, e); err != nil {
		return err
	}
	return b.cfg.UI.Render(w, r, "repo-file", page)
}

func entry(r *http.Request, g git.Repo, p place) (git.Entry, error) {
	e, err := g.Entry(r.Context(), p.Commit, p.Path)
	if err != nil {
		return e, notFound(err, "there is no file %s in %s", p.Path, p.Rev)
	}
	if e.Submodule() {
		return e, fault.NotFound("%s is a submodule: its files are in another repository", p.Path)
	}
	return e, nil
}

// fill reads the file and chooses how to show it.
func (b *Browser) fill(r *http.Request, g git.Repo, page *filePage, e git.Entry) error {
	info, data, err := g.Object(r.Context(), e.ID, "blob", maxShown)
	page.Size = info.Size
	if git.TooLarge(err) {
		page.Why = "repo.file.too-large"
		return nil
	}
	if err != nil {
		return err
	}
	text := string(data)
	switch {
	case e.Symlink():
		page.Target = strings.ToValidUTF8(text, "�")
	case imageType(page.Place.Path) != "":
		page.Image = true
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		page.Why = "repo.file.binary"
	case text == "":
		page.Why = "repo.file.empty"
	default:
		return b.show(r.Context(), page, e, text)
	}
	return nil
}

// show renders the text of the file.
func (b *Browser) show(ctx context.Context, page *filePage, e git.Entry, text string) (err error) {
	if page.Markdown && !page.Source {
		page.Rendered, err = b.render.markdown(ctx, e.ID, page.Base, page.Place, dirOf(page.Place.Path), text)
		if err != nil || page.Rendered != "" {
			return err
		}
		page.Source = true
	}
	page.Lines = strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") {
		page.Lines++
	}
	page.Code, err = b.render.file(ctx, e.ID, path.Base(page.Place.Path), text)
	return err
}

func dirOf(file string) string {
	if dir := path.Dir(file); dir != "." {
		return dir
	}
	return ""
}

// imageType is the type of a file that a browser shows as an image; else "".
func imageType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".png":
		return "image/png"
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".gif":
		return "image/gif"
	case ".webp":
		return "image/webp"
	case ".svg":
		return "image/svg+xml"
	case ".ico":
		return "image/x-icon"
	}
	return ""
}

// raw sends a file's bytes. What people push must never run as a page of this site:
// everything that is not an image is plain text or a download, and the policy of the
// answer lets even an SVG do nothing.
func (b *Browser) raw(w http.ResponseWriter, r *http.Request) error {
	_, g, err := b.open(r, identity.View, "code")
	if err != nil {
		return err
	}
	p, err := locate(r.Context(), g, r.PathValue("rest"))
	if err != nil {
		return err
	}
	e, err := entry(r, g, p)
	if err != nil {
		return err
	}
	if e.Dir() {
		return fault.Invalid("%s is a directory", p.Path)
	}
	etag := `"` + e.ID + `"`
	hd := w.Header()
	hd.Set("ETag", etag)
	hd.Set("Cache-Control", "private, no-cache")
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	hd.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	info, head, err := b.peek(r, g, e)
	if err != nil {
		return err
	}
	kind, disposition := rawType(p.Path, head)
	hd.Set("Content-Type", kind)
	hd.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": path.Base(p.Path)}))
	if head != nil {
		_, err = w.Write(head)
		return err
	}
	hd.Set("Content-Length", strconv.FormatInt(info.Size, 10))
	if r.Method == http.MethodHead {
		return nil
	}
	return g.WriteBlob(r.Context(), e.ID, w)
}

// peek reads a small file whole; of a large one it tells the size only.
func (b *Browser) peek(r *http.Request, g git.Repo, e git.Entry) (git.Info, []byte, error) {
	info, data, err := g.Object(r.Context(), e.ID, "blob", maxShown)
	if git.TooLarge(err) {
		return info, nil, nil
	}
	if data == nil {
		data = []byte{}
	}
	return info, data, err
}

func rawType(name string, data []byte) (kind, disposition string) {
	if kind := imageType(name); kind != "" {
		return kind, "inline"
	}
	if data != nil && utf8.Valid(data) && !strings.ContainsRune(string(data), 0) {
		return "text/plain; charset=utf-8", "inline"
	}
	return "application/octet-stream", "attachment"
}
