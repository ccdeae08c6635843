package ui

import (
	"net/http"
	"net/url"

	"sampan.dev/sampan/web"
)

const themeCookie = "theme"

// look keeps the language and theme that a person chose at the foot of a page.
func (u *UI) look(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Lang  string `form:"lang" max:"10"`
		Theme string `form:"theme" max:"10"`
		Back  string `form:"back" max:"2000"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	u.Remember(w, r, in.Lang, in.Theme)
	return web.Redirect(w, r, web.LocalPath(in.Back))
}

// Remember keeps a language ("en", "zh") and a theme ("light", "dark", "auto") in the
// browser; what is empty or unknown stays as it is. Call it before the answer begins.
func (u *UI) Remember(w http.ResponseWriter, r *http.Request, lang, theme string) {
	if u.messages.Locale(lang).Lang == lang {
		u.keep(w, r, web.LanguageCookie, lang)
	}
	switch theme {
	case "light", "dark", "auto":
		u.keep(w, r, themeCookie, theme)
	}
}

func (u *UI) keep(w http.ResponseWriter, r *http.Request, name, value string) {
	const year = 365 * 24 * 60 * 60
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: year, HttpOnly: true,
		Secure: u.cfg.Secure || r.TLS != nil, SameSite: http.SameSiteLaxMode})
}

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return "auto"
}

// refererPath is the page that a form was on, for coming back to it.
func refererPath(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host != r.Host {
		return "/"
	}
	return u.RequestURI()
}
