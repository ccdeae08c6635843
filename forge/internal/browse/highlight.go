package browse

import (
	"bytes"
	"container/list"
	"fmt"
	"html/template"
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	chromahtml "github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/alecthomas/chroma/v2/styles"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/ui"
)

const (
	maxHighlight = 512 << 10 // larger files are shown without colours
	maxLine      = 4 << 10   // as are files with longer lines: they are not for reading
	cacheBytes   = 32 << 20
)

// A highlighter colours source text. It is safe for concurrent use.
type highlighter struct {
	cache  *cache
	format *chromahtml.Formatter
}

func newHighlighter() *highlighter {
	return &highlighter{
		cache: newCache(cacheBytes),
		format: chromahtml.New(chromahtml.WithClasses(true), chromahtml.WithLineNumbers(true),
			chromahtml.WithLinkableLineNumbers(true, "L"), chromahtml.TabWidth(4)),
	}
}

// lexerFor knows a language by the name of the file, or by a first line such as #!/bin/sh.
func lexerFor(name, text string) chroma.Lexer {
	lexer := lexers.Match(name)
	if lexer == nil && strings.HasPrefix(text, "#!") {
		lexer = lexers.Analyse(text)
	}
	if lexer == nil || tooWide(text) {
		lexer = lexers.Fallback
	}
	return chroma.Coalesce(lexer)
}

func tooWide(text string) bool {
	if len(text) > maxHighlight {
		return true
	}
	for line := range strings.Lines(text) {
		if len(line) > maxLine {
			return true
		}
	}
	return false
}

// file is a whole file with numbered lines. id is the blob's, so the answer never changes.
func (h *highlighter) file(id, name, text string) (template.HTML, error) {
	key := id + " " + name
	if html, ok := h.cache.get(key); ok {
		return template.HTML(html), nil
	}
	tokens, err := lexerFor(name, text).Tokenise(nil, text)
	if err != nil {
		return "", fmt.Errorf("highlight %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := h.format.Format(&out, styles.Fallback, tokens); err != nil {
		return "", fmt.Errorf("highlight %s: %w", name, err)
	}
	h.cache.put(key, out.String())
	return template.HTML(out.String()), nil
}

// lines colours lines that follow each other in a file, one by one.
func (h *highlighter) lines(name string, lines []string) []template.HTML {
	html := make([]template.HTML, len(lines))
	for i, l := range lines {
		html[i] = template.HTML(template.HTMLEscapeString(l))
	}
	text := strings.Join(lines, "\n") + "\n"
	lexer := lexers.Match(name)
	if lexer == nil || tooWide(text) {
		return html
	}
	tokens, err := chroma.Tokenise(chroma.Coalesce(lexer), nil, text)
	if err != nil {
		return html // without colours it reads as well
	}
	split := chroma.SplitTokensIntoLines(tokens)
	for i := range min(len(split), len(html)) {
		html[i] = spans(split[i])
	}
	return html
}

func spans(tokens []chroma.Token) template.HTML {
	var b strings.Builder
	for _, t := range tokens {
		text := template.HTMLEscapeString(strings.TrimRight(t.Value, "\n"))
		class := chroma.StandardTypes[t.Type]
		if class == "" || text == "" {
			b.WriteString(text)
			continue
		}
		b.WriteString(`<span class="` + class + `">` + text + `</span>`)
	}
	return template.HTML(b.String())
}

// diff turns a file's diff into rows. The two sides are coloured apart, each as the piece
// of the file that it is.
func (h *highlighter) diff(f git.FileDiff) []ui.DiffLine {
	var oldText, newText []string
	for _, l := range f.Lines {
		if l.Old != 0 {
			oldText = append(oldText, l.Text)
		}
		if l.New != 0 {
			newText = append(newText, l.Text)
		}
	}
	oldHTML, newHTML := h.lines(f.Name(), oldText), h.lines(f.Name(), newText)
	rows := make([]ui.DiffLine, 0, len(f.Lines))
	for _, l := range f.Lines {
		row := ui.DiffLine{Old: l.Old, New: l.New}
		switch l.Kind {
		case git.Hunk:
			row.Kind, row.HTML = "hunk", template.HTML(template.HTMLEscapeString(l.Text))
		case git.Added:
			row.Kind = "add"
		case git.Deleted:
			row.Kind = "del"
		}
		if l.Old != 0 {
			row.HTML, oldHTML = oldHTML[0], oldHTML[1:]
		}
		if l.New != 0 {
			row.HTML, newHTML = newHTML[0], newHTML[1:]
		}
		rows = append(rows, row)
	}
	return rows
}

// A cache keeps what was used last, up to so many bytes.
type cache struct {
	mu    sync.Mutex
	left  int
	order *list.List // of *cached, the one used last first
	items map[string]*list.Element
}

type cached struct{ key, value string }

func newCache(size int) *cache {
	return &cache{left: size, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache) get(key string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return "", false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

func (c *cache) put(key, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok {
		return
	}
	c.items[key] = c.order.PushFront(&cached{key, value})
	c.left -= len(key) + len(value)
	for c.left < 0 && c.order.Len() > 1 {
		e := c.order.Back()
		old := c.order.Remove(e).(*cached)
		delete(c.items, old.key)
		c.left += len(old.key) + len(old.value)
	}
}
