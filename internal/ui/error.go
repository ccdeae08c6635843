package ui

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/web"
)

// Error shows an error: what a fault says, or "Something went wrong" with the id of the
// request. It is made for [web.Config]'s Error, which logs.
func (u *UI) Error(w http.ResponseWriter, r *http.Request, err error) {
	if asksForData(r) {
		web.ShowError(w, r, err)
		return
	}
	status := web.StatusOf(err)
	p := errorPage{Status: status, ID: web.RequestID(r.Context()), Key: "ui.error." + strconv.Itoa(status)}
	if f, ok := fault.Of(err); ok {
		p.Message, p.Hint = f.Message, f.Hint
	} else if status < 500 {
		p.Message = err.Error()
	}
	if u.locale(r).T(p.Key) == p.Key {
		p.Key = "ui.error." + strconv.Itoa(status/100*100)
	}
	if status == http.StatusUnauthorized {
		p.SignIn = "/-/sign-in?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
	}
	if err := u.RenderStatus(w, r, status, "ui-error", p); err != nil {
		u.cfg.Log.Error("cannot show an error page", "err", err, "id", p.ID)
		http.Error(w, "Something went wrong ("+p.ID+")", http.StatusInternalServerError)
	}
}

type errorPage struct {
	Status           int
	Key, Message, ID string
	Hint             string
	SignIn           string // where to, when that would help
}

// asksForData reports whether the client is a program, which wants an error it can read.
func asksForData(r *http.Request) bool { return !strings.Contains(r.Header.Get("Accept"), "text/html") }

// Errors are what is wrong with a form: a sentence for a field's name, and for "" one
// about the whole form.
type Errors map[string]string

// FormErrors turns an error that a person can mend in the form into Errors.
func FormErrors(err error) (Errors, bool) {
	if input, ok := errors.AsType[*web.InputError](err); ok {
		e := Errors{}
		for _, f := range input.Fields {
			e[f.Name] = f.Reason
		}
		return e, true
	}
	f, ok := fault.Of(err)
	if !ok {
		return nil, false
	}
	switch f.Kind {
	case fault.KindInvalid, fault.KindConflict, fault.KindTooLarge, fault.KindTooMany:
		return Errors{f.Field: f.Error()}, true
	}
	return nil, false
}
