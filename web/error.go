package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
)

// Error is an error that a handler can return to answer with a status. The text is shown to the user.
func Error(status int, format string, args ...any) error {
	return &statusError{status, fmt.Errorf(format, args...)}
}

type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string   { return e.err.Error() }
func (e *statusError) Unwrap() error   { return errors.Unwrap(e.err) }
func (e *statusError) HTTPStatus() int { return e.status }

// StatusOf is the status that err is answered with: what its HTTPStatus method says, else 500.
func StatusOf(err error) int {
	if s, ok := errors.AsType[interface {
		error
		HTTPStatus() int
	}](err); ok {
		return s.HTTPStatus()
	}
	if errors.Is(err, http.ErrMissingFile) {
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// A PanicError is what a handler's panic becomes.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// fail answers a request with an error. It is the one place where an error is logged.
func (a *App) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := StatusOf(err)
	gone := r.Context().Err() != nil && errors.Is(err, context.Canceled)
	if status >= 500 && !gone {
		a.log(r, err, status)
	}
	switch {
	case gone:
		return // nobody is there to read the answer
	case hasStarted(w):
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "ETag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	switch {
	case a.core.Dev && status == http.StatusInternalServerError && !wantsJSON(r):
		showSource(w, err)
	case a.errors != nil:
		a.errors(w, r, err)
	default:
		ShowError(w, r, err)
	}
}

func (a *App) log(r *http.Request, err error, status int) {
	level := slog.LevelError
	if status == http.StatusServiceUnavailable {
		level = slog.LevelWarn // expected to pass
	}
	attrs := []slog.Attr{slog.String("id", RequestID(r.Context())), slog.String("method", r.Method),
		slog.String("path", r.URL.Path), slog.Any("err", err)}
	if p, ok := errors.AsType[*PanicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	a.core.Log.LogAttrs(r.Context(), level, "request failed", attrs...)
}

// ShowError answers with err as plain text, or as {"message", "request"} to a client that
// asks for JSON. What an error without a status says is not shown.
func ShowError(w http.ResponseWriter, r *http.Request, err error) {
	status, id := StatusOf(err), RequestID(r.Context())
	message := err.Error()
	if status == http.StatusInternalServerError {
		message = "something went wrong"
	}
	if wantsJSON(r) {
		JSON(w, status, struct {
			Message string `json:"message"`
			Request string `json:"request"`
		}{message, id})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if status >= 500 && id != "" {
		message += " (" + id + ")"
	}
	fmt.Fprintln(w, message)
}

func wantsJSON(r *http.Request) bool {
	for _, a := range parseAccept(r.Header.Get("Accept")) {
		switch a.value {
		case "text/html", "text/plain":
			return false
		case "application/json":
			return true
		}
	}
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
}

// recoverPanics turns a panic into an error of its request.
func (a *App) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.fail(w, r, &PanicError{v, debug.Stack()})
			}
		}()
		next.ServeHTTP(w, r)
	})
}
