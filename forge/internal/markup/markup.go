// Package markup turns source text into coloured HTML and Markdown into HTML that is safe
// to show.
//
// Both are work for parsers that a hostile file keeps busy for hours: patterns that go
// back, nesting, references. None of them can be stopped, so a worker does it: this
// program once more, which has so much time and memory for a file and ends when that is
// not enough. Workers start when there is something to do and end when there is not.
package markup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"strings"

	"github.com/alecthomas/chroma/v2"
	chromahtml "github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/alecthomas/chroma/v2/styles"
)

// ErrTooHard is the error for a text that takes more time or memory than one may have.
var ErrTooHard = errors.New("the text takes too long to render")

const (
	maxHighlight = 512 << 10 // larger files are shown without colours
	maxLine      = 4 << 10   // as are files with longer lines: they are not for reading
)

// A request is what a worker is asked for.
type request struct {
	Markdown bool
	Links    Links
	Name     string   // of the source file
	Text     string   // a whole file, with numbered lines
	Lines    []string // or lines that follow each other in one
}

type answer struct {
	HTML  template.HTML
	Lines []template.HTML
	Err   string
}

// File colours a whole file and numbers its lines. The language is told by its name, or by
// a first line such as #!/bin/sh.
func (w *Workers) File(ctx context.Context, name, text string) (template.HTML, error) {
	if tooWide(text) {
		return Plain(text)
	}
	a, err := w.ask(ctx, request{Name: name, Text: text})
	return a.HTML, err
}

// Lines colours lines that follow each other in a file, one by one.
func (w *Workers) Lines(ctx context.Context, name string, lines []string) ([]template.HTML, error) {
	if lexers.Match(name) == nil || tooWide(lines...) {
		return plainLines(lines), nil
	}
	a, err := w.ask(ctx, request{Name: name, Lines: lines})
	if errors.Is(err, ErrTooHard) {
		return plainLines(lines), nil
	}
	return a.Lines, err
}

// Markdown renders GitHub's flavour of it.
func (w *Workers) Markdown(ctx context.Context, links Links, text string) (template.HTML, error) {
	a, err := w.ask(ctx, request{Markdown: true, Links: links, Text: text})
	return a.HTML, err
}

// do is the work itself.
func (r request) do() answer {
	var a answer
	var err error
	switch {
	case r.Markdown:
		a.HTML, err = markdown(r.Links, r.Text)
	case r.Lines != nil:
		a.Lines, err = colourLines(r.Name, r.Lines)
	default:
		a.HTML, err = format(lexerFor(r.Name, r.Text), r.Text)
	}
	if err != nil {
		a.Err = err.Error()
	}
	return a
}

func lexerFor(name, text string) chroma.Lexer {
	lexer := lexers.Match(name)
	if lexer == nil && strings.HasPrefix(text, "#!") {
		lexer = lexers.Analyse(text)
	}
	if lexer == nil {
		lexer = lexers.Fallback
	}
	return chroma.Coalesce(lexer)
}

// tooWide says of the text of a file, whole or by its lines, that it is better left plain.
func tooWide(text ...string) bool {
	size := 0
	for _, t := range text {
		for line := range strings.Lines(t) {
			if size += len(line); size > maxHighlight || len(line) > maxLine {
				return true
			}
		}
	}
	return false
}

var page = chromahtml.New(chromahtml.WithClasses(true), chromahtml.WithLineNumbers(true),
	chromahtml.WithLinkableLineNumbers(true, "L"), chromahtml.TabWidth(4))

// Plain is a file with numbered lines and without colours.
func Plain(text string) (template.HTML, error) { return format(lexers.Fallback, text) }

func format(lexer chroma.Lexer, text string) (template.HTML, error) {
	tokens, err := lexer.Tokenise(nil, text)
	if err != nil {
		return "", fmt.Errorf("highlight: %w", err)
	}
	var out bytes.Buffer
	if err := page.Format(&out, styles.Fallback, tokens); err != nil {
		return "", fmt.Errorf("highlight: %w", err)
	}
	return template.HTML(out.String()), nil
}

func plainLines(lines []string) []template.HTML {
	html := make([]template.HTML, len(lines))
	for i, l := range lines {
		html[i] = template.HTML(template.HTMLEscapeString(l))
	}
	return html
}

func colourLines(name string, lines []string) ([]template.HTML, error) {
	tokens, err := chroma.Tokenise(chroma.Coalesce(lexers.Match(name)), nil, strings.Join(lines, "\n")+"\n")
	if err != nil {
		return nil, fmt.Errorf("highlight: %w", err)
	}
	html := plainLines(lines)
	split := chroma.SplitTokensIntoLines(tokens)
	for i := range min(len(split), len(html)) {
		html[i] = spans(split[i])
	}
	return html, nil
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
