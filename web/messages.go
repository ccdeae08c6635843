package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Messages are the texts of a site in its languages, from files such as "en.json":
//
//	{
//		"issue.title": "Issues of {0}",
//		"issue.count": {"one": "{0} issue", "other": "{0} issues"}
//	}
//
// Add them before the App serves; reading is safe for concurrent use.
type Messages struct {
	langs   []string
	sources []fs.FS

	mu    sync.RWMutex
	texts map[string]map[string]message // by language, then key
}

// message is a text and, where it differs, its form for one.
type message struct{ one, other string }

func (m *message) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &m.other); err == nil {
		return nil
	}
	var forms struct{ One, Other string }
	if err := json.Unmarshal(b, &forms); err != nil || forms.Other == "" {
		return errors.New(`a message is a text or {"one": …, "other": …}`)
	}
	m.one, m.other = forms.One, forms.Other
	return nil
}

// NewMessages makes an empty set; the first language is the fallback.
func NewMessages(langs ...string) *Messages {
	m := &Messages{langs: langs, texts: map[string]map[string]message{}}
	for _, lang := range langs {
		m.texts[lang] = map[string]message{}
	}
	return m
}

// Add reads LANG.json for every language at the root of fsys. A language may be missing. A
// key must not be there already.
func (m *Messages) Add(fsys fs.FS) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := load(m.texts, m.langs, fsys); err != nil {
		return err
	}
	m.sources = append(m.sources, fsys)
	return nil
}

// Reload reads all files again.
func (m *Messages) Reload() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	texts := map[string]map[string]message{}
	for _, lang := range m.langs {
		texts[lang] = map[string]message{}
	}
	for _, fsys := range m.sources {
		if err := load(texts, m.langs, fsys); err != nil {
			return err
		}
	}
	m.texts = texts
	return nil
}

func load(texts map[string]map[string]message, langs []string, fsys fs.FS) error {
	for _, lang := range langs {
		name := lang + ".json"
		b, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		var add map[string]message
		if err := json.Unmarshal(b, &add); err != nil {
			return fmt.Errorf("read messages %s: %w", name, err)
		}
		for key, text := range add {
			if _, ok := texts[lang][key]; ok {
				return fmt.Errorf("read messages %s: %q is there already", name, key)
			}
			texts[lang][key] = text
		}
	}
	return nil
}

// Locale is the locale of a language, or of the fallback when it is not one of m's.
func (m *Messages) Locale(lang string) Locale {
	if !m.has(lang) {
		lang = m.langs[0]
	}
	return Locale{lang, m}
}

func (m *Messages) has(lang string) bool { return slices.Contains(m.langs, lang) }

func (m *Messages) text(lang, key string, args []any) string {
	m.mu.RLock()
	msg, ok := m.texts[lang][key]
	if !ok {
		msg, ok = m.texts[m.langs[0]][key]
	}
	m.mu.RUnlock()
	if !ok {
		return key
	}
	text := msg.other
	if msg.one != "" && len(args) > 0 && fmt.Sprint(args[0]) == "1" {
		text = msg.one
	}
	return fill(text, args)
}

// fill puts args in the places {0}, {1}, … of a text. What is not a place stays.
func fill(text string, args []any) string {
	if len(args) == 0 || !strings.Contains(text, "{") {
		return text
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		number, rest, closed := strings.Cut(after, "}")
		n, err := strconv.Atoi(number)
		if !closed || err != nil || n < 0 || n >= len(args) {
			b.WriteByte('{')
			text = after
			continue
		}
		fmt.Fprint(&b, args[n])
		text = rest
	}
}

// Check tells every key that a language lacks, and every message whose places differ from
// those of the fallback. A test calls it.
func (m *Messages) Check() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := map[string]bool{}
	for _, lang := range m.langs {
		for key := range m.texts[lang] {
			all[key] = true
		}
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(all)) {
		want := places(m.texts[m.langs[0]][key].other)
		for _, lang := range m.langs {
			msg, ok := m.texts[lang][key]
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("%s.json lacks %q", lang, key))
			case places(msg.other) != want:
				errs = append(errs, fmt.Errorf("%s.json: %q has the places %q, not %q", lang, key, places(msg.other), want))
			}
		}
	}
	return errors.Join(errs...)
}

// places are the numbers in a text's {0}, {1}, …, sorted, each once.
func places(text string) string {
	var list []string
	for i := range 10 {
		if p := "{" + strconv.Itoa(i) + "}"; strings.Contains(text, p) {
			list = append(list, p)
		}
	}
	return strings.Join(list, "")
}
