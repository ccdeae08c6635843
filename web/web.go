// Package web is a small framework for server-rendered sites on net/http.
//
// It adds what net/http leaves to each program and nothing more: handlers that return
// errors, typed binding of paths, queries and forms, sealed sessions, flash messages,
// locales, templates with a layout, content-hashed static files, compression and
// server-sent events. Patterns are those of [http.ServeMux]; handlers and middleware are
// those of net/http, so everything written for it works here, and [http.ResponseController]
// works through every writer of this package.
//
// An [App] is made, given its routes, and then serves; routes must not be added while it
// serves. All types are safe for concurrent use once they serve, except [Session], which
// belongs to one request.
//
// An error tells its status by a method HTTPStatus() int; any other error is a bug or a
// broken machine: it is logged with the id of the request and shown as status 500.
package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"
)

// A Handler answers a request or returns why it could not.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Middleware wraps a handler. Writers that it makes should have an Unwrap method.
type Middleware func(http.Handler) http.Handler

// Config is what an App is made with. The zero value works; sessions then end with the process.
type Config struct {
	Log        *slog.Logger
	Keys       [][]byte      // 32 bytes each, newest first: cookies are sealed with the first, opened with any
	Secure     bool          // cookies are Secure even when a request did not come by TLS
	Cookie     string        // name of the session cookie; default "session"
	SessionAge time.Duration // an unused session ends after this; default 30 days
	Dev        bool          // errors show their source line
	MaxBody    int64         // most bytes Bind and ReadJSON read; default 1 MiB
	Origins    []string      // further origins ("https://example.org") that may post here
	Messages   *Messages     // what Locale.T says; nil: keys

	// Error shows an error that a handler returned; nil shows plain text or JSON.
	Error func(w http.ResponseWriter, r *http.Request, err error)
}

// App routes requests to handlers.
type App struct {
	core   *core
	errors func(w http.ResponseWriter, r *http.Request, err error)
	mounts []mount
	// A literal first part of a path owns everything below it, so that "/-/apps/{name}" and
	// "/{owner}/{repo}/settings", which one ServeMux refuses as ambiguous, live together.
	sections map[string]*http.ServeMux
	wild     *http.ServeMux
	use      []Middleware

	once  sync.Once
	inner http.Handler // the Use middleware and the routes
	outer http.Handler // inner within what every request needs once
}

// core is what an App and its Subs share.
type core struct {
	Config
	sealer sealer
	plans  plans
}

type mount struct {
	prefix string
	h      http.Handler
}

// New makes an App. It panics when a key is not 32 bytes long or an origin is not one:
// a wrong setting must stop the start.
func New(cfg Config) *App {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.Cookie == "" {
		cfg.Cookie = "session"
	}
	if cfg.SessionAge == 0 {
		cfg.SessionAge = 30 * 24 * time.Hour
	}
	if len(cfg.Keys) == 0 {
		key := make([]byte, 32)
		rand.Read(key)
		cfg.Keys = [][]byte{key}
	}
	if cfg.Messages == nil {
		cfg.Messages = NewMessages("en")
	}
	return newApp(&core{Config: cfg, sealer: newSealer(cfg.Keys)}, cfg.Error)
}

func newApp(c *core, errors func(http.ResponseWriter, *http.Request, error)) *App {
	return &App{core: c, errors: errors, sections: map[string]*http.ServeMux{}, wild: http.NewServeMux()}
}

// Sub makes an App with routes and middleware of its own that shares everything else.
// Mount it in its parent; patterns are still whole paths.
func (a *App) Sub() *App { return newApp(a.core, a.errors) }

// Handle routes an [http.ServeMux] pattern such as "GET /issues/{id}" to h, within mw, the
// first of which is outermost. A pattern whose first part is literal owns that part: for
// "/-/apps", no pattern that begins with a wildcard is asked for what is below "/-/".
func (a *App) Handle(pattern string, h Handler, mw ...Middleware) {
	var next http.Handler = route{a, h}
	for i := len(mw) - 1; i >= 0; i-- {
		next = mw[i](next)
	}
	a.muxFor(pattern).Handle(pattern, found{next})
}

// Mount gives everything at and below prefix to h, before any pattern is looked at. The
// longest prefix wins. The path is not shortened.
func (a *App) Mount(prefix string, h http.Handler) {
	a.mounts = append(a.mounts, mount{strings.TrimSuffix(prefix, "/"), h})
	sort.SliceStable(a.mounts, func(i, j int) bool { return len(a.mounts[i].prefix) > len(a.mounts[j].prefix) })
}

// Use wraps every route and mount in mw; the first added is outermost.
func (a *App) Use(mw ...Middleware) { a.use = append(a.use, mw...) }

// Locales sets what Locale.T says, for messages that come with the pages.
func (a *App) Locales(m *Messages) { a.core.Messages = m }

// ServeHTTP implements [http.Handler]. Within another App only this App's own middleware
// runs: the request has its id, session and locale already.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.once.Do(a.build)
	if stateOf(r) != nil {
		a.inner.ServeHTTP(w, r)
		return
	}
	st := &state{core: a.core, id: newID(), tls: r.TLS != nil}
	st.out = response{ResponseWriter: w, before: st.commit}
	w.Header().Set("X-Request-Id", st.id)
	r = r.WithContext(context.WithValue(r.Context(), stateKey{}, st))
	st.request = r
	a.outer.ServeHTTP(&st.out, r)
	st.out.start(http.StatusOK) // a handler that wrote nothing answers with an empty 200
}

func (a *App) build() {
	a.inner = http.HandlerFunc(a.dispatch)
	for i := len(a.use) - 1; i >= 0; i-- {
		a.inner = a.use[i](a.inner)
	}
	a.outer = a.accessLog(a.recoverPanics(a.sameOrigin(Compress()(a.inner))))
}

// dispatch finds the mount or the route of a request.
func (a *App) dispatch(w http.ResponseWriter, r *http.Request) {
	for _, m := range a.mounts {
		if rest, ok := strings.CutPrefix(r.URL.Path, m.prefix); ok && (rest == "" || rest[0] == '/') {
			m.h.ServeHTTP(w, r)
			return
		}
	}
	mux, ok := a.sections[firstPart(r.URL.Path)]
	if !ok {
		mux = a.wild
	}
	miss := &missing{ResponseWriter: w}
	mux.ServeHTTP(miss, r)
	if miss.status != 0 {
		w.Header().Del("Content-Type")
		a.fail(w, r, Error(miss.status, "%s", missText(miss.status, r)))
	}
}

func missText(status int, r *http.Request) string {
	if status == http.StatusMethodNotAllowed {
		return "this address does not answer to " + r.Method
	}
	return "there is nothing at this address"
}

func (a *App) muxFor(pattern string) *http.ServeMux {
	path := pattern
	if _, after, ok := strings.Cut(pattern, " "); ok {
		path = strings.TrimLeft(after, " \t")
	}
	if i := strings.IndexByte(path, '/'); i > 0 {
		path = path[i:] // the ServeMux looks at the host
	}
	part := firstPart(path)
	if part == "" || part[0] == '{' {
		return a.wild
	}
	mux, ok := a.sections[part]
	if !ok {
		mux = http.NewServeMux()
		a.sections[part] = mux
	}
	return mux
}

func firstPart(path string) string {
	path = strings.TrimPrefix(path, "/")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return path
}

// route is a Handler within its App.
type route struct {
	app *App
	h   Handler
}

func (rt route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := rt.h(w, r); err != nil {
		rt.app.fail(w, r, err)
	}
}

// missing holds back what a ServeMux says when it has no route, so that the App says it.
type missing struct {
	http.ResponseWriter
	status int
}

func (m *missing) WriteHeader(status int) {
	if status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
		m.status = status
		return
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *missing) Write(p []byte) (int, error) {
	if m.status != 0 {
		return len(p), nil
	}
	return m.ResponseWriter.Write(p)
}

// found marks the end of a ServeMux's search and takes the missing writer away again.
type found struct{ next http.Handler }

func (f found) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m, ok := w.(*missing); ok {
		w = m.ResponseWriter
	}
	f.next.ServeHTTP(w, r)
}

// newID is short enough to be read out, and random enough not to meet another in a log.
func newID() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
