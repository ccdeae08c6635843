package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"
	"sync"
)

// Templates are html/template pages with a common layout and partials.
//
// The files of the base and the files of a directory whose names begin with "_" are there
// for every page. A page "issue" is the file issue.html; it may define any templates, and
// those that the base calls ("main", "title") it must. Each page is compiled once for each
// language, so that functions like t know theirs and nothing is cloned for a request.
type Templates struct {
	cfg     TemplatesConfig
	sources []fs.FS
	buffers sync.Pool

	mu     sync.RWMutex
	loader *loader
}

// TemplatesConfig is what Templates are made with.
type TemplatesConfig struct {
	Base     fs.FS                          // *.html at its root
	Funcs    func(Locale) template.FuncMap  // further functions; t is there already
	Messages *Messages                      // nil: only "en", saying keys
	Dev      bool                           // read the files again before each page
	Check    func(*template.Template) error // refuses a page, when set
}

// NewTemplates compiles the base.
func NewTemplates(cfg TemplatesConfig) (*Templates, error) {
	if cfg.Messages == nil {
		cfg.Messages = NewMessages("en")
	}
	t := &Templates{cfg: cfg, buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
	return t, t.Reload()
}

// Add compiles the pages at the root of fsys.
func (t *Templates) Add(fsys fs.FS) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.loader.clone()
	if err := l.addPages(fsys); err != nil {
		return withSource(err, l.files)
	}
	t.sources = append(t.sources, fsys)
	t.loader = l
	return nil
}

// Reload reads and compiles everything again. When it fails, what was there stays.
func (t *Templates) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := newLoader(t.cfg)
	if err := l.load(t.sources); err != nil {
		return withSource(err, l.files)
	}
	t.loader = l
	return nil
}

// Render writes a page's template (block) in a language. It writes nothing when it fails.
func (t *Templates) Render(w io.Writer, lang, page, block string, data any) error {
	if t.cfg.Dev {
		if err := errors.Join(t.cfg.Messages.Reload(), t.Reload()); err != nil {
			return err
		}
	}
	t.mu.RLock()
	l := t.loader
	t.mu.RUnlock()
	tmpl := l.pages[t.cfg.Messages.Locale(lang).Lang][page]
	if tmpl == nil {
		return fmt.Errorf("there is no page %q", page)
	}
	b := t.buffers.Get().(*bytes.Buffer)
	defer t.buffers.Put(b)
	b.Reset()
	if err := tmpl.ExecuteTemplate(b, block, data); err != nil {
		return withSource(err, l.files)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Escape finds the mistakes that html/template sees only when a page is first shown, in all
// pages. A test calls it.
func (t *Templates) Escape(block string) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var errs []error
	for lang, pages := range t.loader.pages {
		for name, page := range pages {
			err := page.ExecuteTemplate(io.Discard, block, nil)
			if escape, ok := errors.AsType[*template.Error](err); ok {
				errs = append(errs, fmt.Errorf("page %s (%s): %w", name, lang, escape))
			}
		}
	}
	return errors.Join(errs...)
}

// loader holds what was compiled. One that Templates have does not change any more.
type loader struct {
	cfg   TemplatesConfig
	base  map[string]*template.Template            // by language
	pages map[string]map[string]*template.Template // by language, then page
	files map[string]fs.FS                         // a file's name to where it lies
}

func newLoader(cfg TemplatesConfig) *loader {
	return &loader{cfg, map[string]*template.Template{}, map[string]map[string]*template.Template{}, map[string]fs.FS{}}
}

func (l *loader) clone() *loader {
	c := &loader{l.cfg, l.base, map[string]map[string]*template.Template{}, maps.Clone(l.files)}
	for lang, pages := range l.pages {
		c.pages[lang] = maps.Clone(pages)
	}
	return c
}

// load compiles the base and the pages of all sources.
func (l *loader) load(sources []fs.FS) error {
	for _, lang := range l.cfg.Messages.langs {
		l.pages[lang] = map[string]*template.Template{}
		locale := l.cfg.Messages.Locale(lang)
		base := template.New("").Funcs(template.FuncMap{"t": locale.T})
		if l.cfg.Funcs != nil {
			base.Funcs(l.cfg.Funcs(locale))
		}
		if l.cfg.Base != nil {
			if err := l.parse(base, l.cfg.Base, func(string) bool { return true }); err != nil {
				return err
			}
		}
		l.base[lang] = base
	}
	for _, fsys := range sources {
		if err := l.addPages(fsys); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) addPages(fsys fs.FS) error {
	for lang, base := range l.base {
		if err := l.loadPages(l.pages[lang], base, fsys); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) loadPages(pages map[string]*template.Template, base *template.Template, fsys fs.FS) error {
	shared, err := base.Clone()
	if err != nil {
		return err
	}
	isShared := func(name string) bool { return strings.HasPrefix(name, "_") }
	if err := l.parse(shared, fsys, isShared); err != nil {
		return err
	}
	names, err := fs.Glob(fsys, "*.html")
	if err != nil {
		return err
	}
	for _, name := range names {
		page := strings.TrimSuffix(name, ".html")
		if isShared(name) {
			continue
		}
		if _, ok := pages[page]; ok {
			return fmt.Errorf("there are two pages %q", page)
		}
		tmpl, err := shared.Clone()
		if err != nil {
			return err
		}
		if err := l.parse(tmpl, fsys, func(n string) bool { return n == name }); err != nil {
			return err
		}
		if l.cfg.Check != nil {
			if err := l.cfg.Check(tmpl); err != nil {
				return fmt.Errorf("page %q: %w", page, err)
			}
		}
		pages[page] = tmpl
	}
	return nil
}

func (l *loader) parse(into *template.Template, fsys fs.FS, want func(name string) bool) error {
	names, err := fs.Glob(fsys, "*.html")
	if err != nil {
		return err
	}
	for _, name := range names {
		if !want(path.Base(name)) {
			continue
		}
		l.files[name] = fsys
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("read template: %w", err)
		}
		if _, err := into.New(name).Parse(string(b)); err != nil {
			return err
		}
	}
	return nil
}
