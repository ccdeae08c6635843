package markup

import (
	"bytes"
	"fmt"
	"html/template"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Links is where a Markdown file lies: links in it that lead to other files are made to
// lead to their pages. They go through the tree of rev, from dir, in the repository whose
// pages begin with base.
type Links struct{ Base, Rev, Dir string }

// policy says what of HTML may stand in Markdown.
var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.UGCPolicy()
	p.AllowAttrs("id").Matching(regexp.MustCompile(`^[\p{L}\p{N}_-]{1,200}$`)).OnElements("h1", "h2", "h3", "h4", "h5", "h6")
	p.AllowAttrs("checked", "disabled", "type").Matching(regexp.MustCompile(`^(checkbox|checked|disabled|)$`)).OnElements("input")
	p.AllowAttrs("align").Matching(regexp.MustCompile(`^(left|right|center)$`)).OnElements("p", "div", "h1", "h2", "h3", "td", "th", "img")
	p.RequireNoFollowOnLinks(true)
	return p
})

func markdown(links Links, source string) (template.HTML, error) {
	md := goldmark.New(
		goldmark.WithExtensions(extension.GFM, extension.Footnote),
		goldmark.WithParserOptions(parser.WithAutoHeadingID(), parser.WithASTTransformers(util.Prioritized(links, 500))),
	)
	var out bytes.Buffer
	if err := md.Convert([]byte(source), &out); err != nil {
		return "", fmt.Errorf("render Markdown: %w", err)
	}
	return template.HTML(policy().Sanitize(out.String())), nil
}

// Transform makes relative links absolute. It is for goldmark.
func (l Links) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
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

func (l Links) relink(dest []byte, view string) []byte {
	u, err := url.Parse(string(dest))
	if err != nil || u.IsAbs() || u.Host != "" || u.Path == "" {
		return dest
	}
	file := path.Join("/", l.Dir, u.Path)
	if strings.HasPrefix(u.Path, "/") {
		file = path.Clean(u.Path)
	}
	target := url.URL{Path: l.Base + "/" + view + "/" + l.Rev + file, RawQuery: u.RawQuery, Fragment: u.Fragment}
	return []byte(target.String())
}
