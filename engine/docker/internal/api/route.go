package api

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
)

// A Router finds the handler of a request. All routes are added before it serves.
type Router struct {
	log    *slog.Logger
	server string // the header of that name
	mux    *http.ServeMux
	named  []namedRoute
}

// namedRoute is one with a name in it that may have slashes.
type namedRoute struct {
	method, prefix, suffix string
	handler                Handler
}

// NewRouter serves as Sampan of that version.
func NewRouter(log *slog.Logger, version string) *Router {
	return &Router{log: log, server: "Sampan/" + version + " (linux)", mux: http.NewServeMux()}
}

// Handle adds a route as ServeMux knows it: "GET /containers/{id}/json". GET is HEAD, too.
func (rt *Router) Handle(pattern string, h Handler) {
	rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { rt.answer(w, r, h) })
}

// HandleName adds a route with a name in it that may have slashes, as those of images:
// HandleName("GET", "/images/", "/json", h). Routes of Handle go first; of two that fit, the one
// that was added first.
func (rt *Router) HandleName(method, prefix, suffix string, h Handler) {
	rt.named = append(rt.named, namedRoute{method, prefix, suffix, h})
}

// ServeHTTP answers a request, with or without a version in its path.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rt.headers(w)
	out := &answer{ResponseWriter: w}
	defer rt.recovered(out, r)
	version, path := cutVersion(r.URL.Path)
	if version != "" {
		if err := checkVersion(version); err != nil {
			rt.tooFar(out, r, version, err)
			return
		}
		r = withPath(with(r, versionKey, version), path)
	}
	// The mux sends people to a cleaned path. Docker's clients do not go there with a body, and an
	// empty name is a mistake that they should hear of.
	if _, pattern := rt.mux.Handler(r); pattern != "" && !strings.Contains(r.URL.Path, "//") {
		rt.mux.ServeHTTP(out, r)
		return
	}
	for _, n := range rt.named {
		if name, ok := n.match(r); ok {
			rt.answer(out, with(r, nameKey, name), n.handler)
			return
		}
	}
	rt.fail(out, r, ErrStatus(http.StatusNotFound, "page not found"))
}

func (n namedRoute) match(r *http.Request) (string, bool) {
	if n.method != r.Method && (n.method != http.MethodGet || r.Method != http.MethodHead) {
		return "", false
	}
	rest, ok := strings.CutPrefix(r.URL.Path, n.prefix)
	if !ok {
		return "", false
	}
	name, ok := strings.CutSuffix(rest, n.suffix)
	return name, ok && name != ""
}

// withPath is r for another path. What is escaped in it stays so.
func withPath(r *http.Request, path string) *http.Request {
	c := *r
	c.URL = new(url.URL)
	*c.URL = *r.URL
	c.URL.Path = path
	if r.URL.RawPath != "" {
		_, c.URL.RawPath = cutVersion(r.URL.RawPath)
	}
	return &c
}

func (rt *Router) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", rt.server)
}

// tooFar answers clients that are older than JSON errors in text, as Docker does.
func (rt *Router) tooFar(w http.ResponseWriter, r *http.Request, version string, err error) {
	if compare(version, MinVersion) < 0 {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	rt.fail(w, r, err)
}

func (rt *Router) answer(w http.ResponseWriter, r *http.Request, h Handler) {
	if err := h(w, r); err != nil {
		rt.fail(w, r, err)
	}
}

// fail writes an error where there is still somebody to read it, and logs those that are not the
// client's. They are shown as they are: who may use this API is root on this machine.
func (rt *Router) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := Status(err)
	begun := hasBegun(w)
	if r.Context().Err() == nil && (begun || status >= http.StatusInternalServerError) {
		rt.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", status, "err", err)
	}
	if begun {
		breakOff(w)
		return
	}
	h := w.Header()
	for _, k := range []string{"Content-Length", "Content-Encoding", "X-Docker-Container-Path-Stat"} {
		h.Del(k)
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status) // such an answer has no body
		return
	}
	_ = JSON(w, status, map[string]string{"message": err.Error()})
}

// breakOff ends an answer in its middle, so that it does not look whole.
func breakOff(w http.ResponseWriter) {
	if a, ok := w.(*answer); ok && !a.hijacked {
		panic(http.ErrAbortHandler)
	}
}

// recovered keeps one request's bug from ending the server.
func (rt *Router) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	rt.log.Error("panic", "method", r.Method, "path", r.URL.Path, "err", fmt.Sprint(v), "stack", string(debug.Stack()))
	if !hasBegun(w) {
		_ = JSON(w, http.StatusInternalServerError, map[string]string{"message": "Something went wrong"})
	}
}

// answer knows whether it has begun.
type answer struct {
	http.ResponseWriter
	begun    bool
	hijacked bool
}

func (a *answer) WriteHeader(status int) {
	a.begun = a.begun || status >= 200
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush is for handlers that ask for an http.Flusher, as gRPC's does.
func (a *answer) Flush() {
	a.begun = true
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack is for handlers that ask for an http.Hijacker.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.begun, a.hijacked = true, true
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

func hasBegun(w http.ResponseWriter) bool {
	a, ok := w.(*answer)
	return ok && a.begun
}
