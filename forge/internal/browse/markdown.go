package browse

import (
	"bytes"
	"fmt"
	"html/template"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// A renderer turns Markdown (GitHub's flavour) into HTML that is safe to show.
type renderer struct {
	policy *bluemonday.Policy
	cache  *cache
}

func newRenderer() *renderer {
	p := bluemonday.UGCPolicy()
	p.AllowAttrs("id").Matching(regexp.MustCompile(`^[\p{L}\p{N}_-]{1,200}$`)).OnElements("h1", "h2", "h3", "h4", "h5", "h6")
	p.AllowAttrs("checked", "disabled", "type").Matching(regexp.MustCompile(`^(checkbox|checked|disabled|)$`)).OnElements("input")
	p.AllowAttrs("align").Matching(regexp.MustCompile(`^(left|right|center)$`)).OnElements("p", "div", "h1", "h2", "h3", "td", "th", "img")
	p.RequireNoFollowOnLinks(true)
	return &renderer{policy: p, cache: newCache(cacheBytes / 4)}
}

// markdown renders a file of a repository. base is the address of the repository's pages,
// rev the commit or branch, dir the directory of the file: links that lead to other
// files are made to lead to their pages. id is the blob's.
func (m *renderer) markdown(id, base, rev, dir, source string) (template.HTML, error) {
	key := strings.Join([]string{id, base, rev, dir}, "\x00")
	if html, ok := m.cache.get(key); ok {
		return template.HTML(html), nil
	}
	md := goldmark.New(
		goldmark.WithExtensions(extension.GFM, extension.Footnote),
		goldmark.WithParserOptions(parser.WithAutoHeadingID(),
			parser.WithASTTransformers(util.Prioritized(relinker{base: base, rev: rev, dir: dir}, 500))),
	)
	var out bytes.Buffer
	if err := md.Convert([]byte(source), &out); err != nil {
		return "", fmt.Errorf("render Markdown: %w", err)
	}
	html := m.policy.Sanitize(out.String())
	m.cache.put(key, html)
	return template.HTML(html), nil
}

// A relinker makes relative links absolute.
type relinker struct{ base, rev, dir string }

func (l relinker) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
	ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link:
			n.Destination = l.relink(n.Destination, "blob")
		case *ast.Image:
			n.Destination = l.relink(n.Destination, "raw")
		}
		return ast.WalkContinue, nil
	})
}

func (l relinker) relink(dest []byte, view string) []byte {
	u, err := url.Parse(string(dest))
	if err != nil || u.IsAbs() || u.Host != "" || u.Path == "" {
		return dest
	}
	file := path.Join("/", l.dir, u.Path)
	if strings.HasPrefix(u.Path, "/") {
		file = path.Clean(u.Path)
	}
	target := url.URL{Path: l.base + "/" + view + "/" + l.rev + file, RawQuery: u.RawQuery, Fragment: u.Fragment}
	return []byte(target.String())
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
