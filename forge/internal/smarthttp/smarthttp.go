// Package smarthttp is git's door on HTTP: clone, fetch and push.
//
// It speaks the smart protocol of gitprotocol-http(5), versions 0 to 2, with compressed
// requests; the dumb one, which reads files, is refused with a reason. Who asks is told
// by a password or a token in the Authorization header. A stranger is asked to sign in
// for everything that he may not see, whether it exists or not.
package smarthttp

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/push"
	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

// maxRequest bounds what a fetching client says: the objects that it wants and has.
const maxRequest = 64 << 20

// A request that is not over when its answer is may go on so long and so far.
const (
	grace   = 5 * time.Second
	maxRest = 1 << 20
)

// quiet is how long a client may neither send nor take a byte.
const quiet = 10 * time.Minute

// Config of a Door.
type Config struct {
	Log  *slog.Logger
	Who  func(r *http.Request) (identity.Who, error)
	Find func(ctx context.Context, who identity.Who, path string, write bool) (push.Target, error)
	Push *push.Service
}

// A Door serves git clients.
type Door struct{ cfg Config }

// New makes a Door.
func New(cfg Config) *Door { return &Door{cfg: cfg} }

// Routes adds the addresses that git appends to a remote's URL.
func (d *Door) Routes(app *web.App) {
	for _, repo := range []string{"/{owner}/{repo}", "/{repo}"} {
		app.Handle("GET "+repo+"/info/refs", d.advertise)
		app.Handle("POST "+repo+"/git-upload-pack", d.serve(git.UploadPack))
		app.Handle("POST "+repo+"/git-receive-pack", d.serve(git.ReceivePack))
	}
}

// advertise answers the first request of each clone, fetch or push.
func (d *Door) advertise(w http.ResponseWriter, r *http.Request) error {
	service := git.Service(r.URL.Query().Get("service"))
	if service != git.UploadPack && service != git.ReceivePack {
		return d.refuse(w, r, fault.Forbidden("Sampan speaks git's smart HTTP protocol only").Try("use git 1.6.6 or newer"))
	}
	_, target, err := d.find(r, service)
	if err != nil {
		return d.refuse(w, r, err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-"+string(service)+"-advertisement")
	noCache(h)
	if service == git.ReceivePack {
		refs, err := target.Git.AdvertisePush(r.Context(), "sampan")
		if err != nil {
			return err
		}
		_, err = w.Write(append(intro(service), refs...))
		return err
	}
	protocol := r.Header.Get("Git-Protocol")
	if !strings.Contains(protocol, "version=2") {
		if _, err := w.Write(intro(service)); err != nil {
			return err
		}
	}
	return d.gitError(r, target.Git.Serve(r.Context(), service, git.Streams{In: http.NoBody, Out: w},
		git.ServeOptions{Protocol: protocol, Stateless: true, Advertise: true}))
}

func intro(service git.Service) []byte {
	return wire.AppendFlush(wire.Append(nil, "# service="+string(service)+"\n"))
}

func noCache(h http.Header) {
	h.Set("Expires", "Fri, 01 Jan 1980 00:00:00 GMT")
	h.Set("Pragma", "no-cache")
	h.Set("Cache-Control", "no-cache, max-age=0, must-revalidate, no-transform")
}

// serve answers the request that carries the work.
func (d *Door) serve(service git.Service) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if got := r.Header.Get("Content-Type"); got != "application/x-"+string(service)+"-request" {
			return d.refuse(w, r, fault.Invalid("the content type %q is not git's", got))
		}
		who, target, err := d.find(r, service)
		if err != nil {
			return d.refuse(w, r, err)
		}
		in, err := body(r, service)
		if err != nil {
			return d.refuse(w, r, err)
		}
		out := newStream(w)
		w.Header().Set("Content-Type", "application/x-"+string(service)+"-result")
		noCache(w.Header())
		request := out.reading(in, r.Body)
		defer request.close()
		if service == git.ReceivePack {
			err = d.cfg.Push.Receive(r.Context(), who, target, request, out)
		} else {
			err = target.Git.Serve(r.Context(), service, git.Streams{In: request, Out: out},
				git.ServeOptions{Protocol: r.Header.Get("Git-Protocol"), Stateless: true})
		}
		if f, ok := fault.Of(err); ok && !out.wrote {
			return d.refuse(w, r, f)
		}
		return d.gitError(r, err)
	}
}

// body is the request without its compression.
func body(r *http.Request, service git.Service) (io.Reader, error) {
	var in io.Reader = r.Body
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fault.Invalid("the request is not compressed with gzip as it says: %w", err)
		}
		in = z
	default:
		return nil, fault.Invalid("requests compressed with %q are not understood", enc).Try("use gzip")
	}
	if service == git.UploadPack {
		in = io.LimitReader(in, maxRequest)
	}
	return in, nil
}

// find authenticates and looks the repository up.
func (d *Door) find(r *http.Request, service git.Service) (identity.Who, push.Target, error) {
	who, err := d.cfg.Who(r)
	if err != nil {
		return who, push.Target{}, err
	}
	path := r.PathValue("repo")
	if owner := r.PathValue("owner"); owner != "" {
		path = owner + "/" + path
	}
	write := service == git.ReceivePack
	if write && who.ID == 0 {
		return who, push.Target{}, fault.SignIn("sign in to push")
	}
	target, err := d.cfg.Find(r.Context(), who, path, write)
	if who.ID == 0 && fault.Is(err, fault.KindNotFound) {
		err = fault.SignIn("sign in to see this repository, if it exists")
	}
	return who, target, err
}

// refuse answers with a fault as plain text, which git shows behind "remote: ".
func (d *Door) refuse(w http.ResponseWriter, r *http.Request, err error) error {
	f, ok := fault.Of(err)
	if !ok {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	noCache(h)
	if f.Kind == fault.KindSignIn {
		h.Set("WWW-Authenticate", `Basic realm="Sampan", charset="UTF-8"`)
	}
	w.WriteHeader(f.HTTPStatus())
	_, err = fmt.Fprintln(w, f.Error())
	return err
}

// gitError logs what went wrong once the answer has begun: there is no other way left to
// tell it. A client that left is no error.
func (d *Door) gitError(r *http.Request, err error) error {
	if err == nil || r.Context().Err() != nil {
		return nil
	}
	var ce *git.CommandError
	if errors.As(err, &ce) {
		d.cfg.Log.Info("git client turned away", "path", r.URL.Path, "err", err)
		return nil
	}
	return err
}

// A stream passes on each write at once, and gives a client that moves the time it needs:
// the server's own deadlines are made for pages.
type stream struct {
	w     http.ResponseWriter
	c     *http.ResponseController
	wrote bool
}

func newStream(w http.ResponseWriter) *stream {
	s := &stream{w: w, c: http.NewResponseController(w)}
	// A refusal may have to be sent before the client has finished its pack. HTTP/2 can
	// always do so and knows no such setting, so an error means nothing.
	s.c.EnableFullDuplex()
	return s
}

func (s *stream) Write(p []byte) (int, error) {
	s.wrote = true
	s.c.SetWriteDeadline(time.Now().Add(quiet))
	n, err := s.w.Write(p)
	if err == nil {
		err = s.c.Flush()
	}
	return n, err
}

// reading is r with a deadline that moves on with each read.
func (s *stream) reading(r io.Reader, body io.Reader) *patient {
	return &patient{s: s, r: r, body: body}
}

// patient reads a request for a git process that may end before the request does.
type patient struct {
	s    *stream
	r    io.Reader
	body io.Reader // what r reads, still compressed

	reading sync.Mutex // held while a read is under way
	mu      sync.Mutex
	closed  bool
}

func (p *patient) Read(b []byte) (int, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	if !p.extend() {
		return 0, io.EOF
	}
	return p.r.Read(b)
}

func (p *patient) extend() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.s.c.SetReadDeadline(time.Now().Add(quiet))
	}
	return !p.closed
}

// close ends reading, waits until it has ended, and reads on to the end of a request that
// is nearly over: net/http must find nobody who reads a request whose handler has
// returned, and reuses a connection only after a whole request.
func (p *patient) close() {
	p.mu.Lock()
	p.closed = true
	p.s.c.SetReadDeadline(time.Now().Add(grace))
	p.mu.Unlock()
	p.reading.Lock()
	defer p.reading.Unlock()
	io.CopyN(io.Discard, p.body, maxRest)
	p.s.c.SetReadDeadline(time.Time{})
}
