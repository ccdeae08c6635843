package browse

import (
	"container/list"
	"context"
	"errors"
	"html/template"
	"strings"
	"sync"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/markup"
	"sampan.dev/sampan/internal/ui"
)

const cacheBytes = 32 << 20

// A renderer shows text: coloured, or Markdown as what it says. What cannot be shown so in
// the time that there is, is shown as it stands. It is safe for concurrent use.
type renderer struct {
	workers *markup.Workers
	cache   *cache
}

func newRenderer() *renderer {
	return &renderer{workers: markup.NewWorkers(2), cache: newCache(cacheBytes)}
}

// file is a whole file with numbered lines. id is the blob's, so the answer never changes.
func (r *renderer) file(ctx context.Context, id, name, text string) (template.HTML, error) {
	return r.cached(id+" "+name, func() (template.HTML, error) {
		html, err := r.workers.File(ctx, name, text)
		if errors.Is(err, markup.ErrTooHard) {
			return markup.Plain(text)
		}
		return html, err
	})
}

// markdown renders a Markdown file of the repository whose pages begin with base. It is
// empty when that takes too long. id is the blob's, dir its directory in p.
func (r *renderer) markdown(ctx context.Context, id, base string, p place, dir, text string) (template.HTML, error) {
	return r.cached(strings.Join([]string{id, base, p.Rev, dir}, "\x00"), func() (template.HTML, error) {
		html, err := r.workers.Markdown(ctx, markup.Links{Base: base, Rev: p.Rev, Dir: dir}, text)
		if errors.Is(err, markup.ErrTooHard) {
			return "", nil
		}
		return html, err
	})
}

func (r *renderer) cached(key string, render func() (template.HTML, error)) (template.HTML, error) {
	if html, ok := r.cache.get(key); ok {
		return template.HTML(html), nil
	}
	html, err := render()
	if err == nil {
		r.cache.put(key, string(html))
	}
	return html, err
}

// diff turns a file's diff into rows. The two sides are coloured apart, each as the piece
// of the file that it is.
func (r *renderer) diff(ctx context.Context, f git.FileDiff) ([]ui.DiffLine, error) {
	var oldText, newText []string
	for _, l := range f.Lines {
		if l.Old != 0 {
			oldText = append(oldText, l.Text)
		}
		if l.New != 0 {
			newText = append(newText, l.Text)
		}
	}
	oldHTML, err := r.workers.Lines(ctx, f.Name(), oldText)
	if err != nil {
		return nil, err
	}
	newHTML, err := r.workers.Lines(ctx, f.Name(), newText)
	if err != nil {
		return nil, err
	}
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
	return rows, nil
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
