package web

import (
	"net/http"
	"strings"
)

// LanguageCookie holds the language that a person chose; without it the browser's
// Accept-Language decides.
const LanguageCookie = "lang"

// Locale says things in one language. Its zero value says keys.
type Locale struct {
	Lang     string // "en", "zh"
	messages *Messages
}

// LocaleOf is the language of a request.
func LocaleOf(r *http.Request) Locale {
	st := stateOf(r)
	if st == nil {
		return Locale{}
	}
	if st.locale == nil {
		l := st.core.Messages.choose(r)
		st.locale = &l
	}
	return *st.locale
}

// T is the message of key with {0}, {1}, … replaced by args. A message with a form for one
// takes it when the first of args is 1. In a language that lacks the message the first
// language has it; one that no language has is shown as its key.
func (l Locale) T(key string, args ...any) string {
	if l.messages == nil {
		return key
	}
	return l.messages.text(l.Lang, key, args)
}

// Languages are the languages that the messages exist in, the fallback first.
func (l Locale) Languages() []string {
	if l.messages == nil {
		return nil
	}
	return l.messages.langs
}

func (m *Messages) choose(r *http.Request) Locale {
	if c, err := r.Cookie(LanguageCookie); err == nil && m.has(c.Value) {
		return m.Locale(c.Value)
	}
	return m.Locale(m.Match(r.Header.Get("Accept-Language")))
}

// Match is the language that suits an Accept-Language header (RFC 9110 §12.5.4) best, or
// the fallback. A region does not matter: "zh-TW" is "zh".
func (m *Messages) Match(header string) string {
	for _, a := range parseAccept(header) {
		if a.q == 0 {
			break
		}
		base, _, _ := strings.Cut(a.value, "-")
		if m.has(base) {
			return base
		}
	}
	return m.langs[0]
}
