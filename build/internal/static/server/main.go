// Command server serves a directory of files over HTTP (RFC 9110): the process of static sites.
//
// Types come from names and content, ETags from content; ranges and conditional requests
// work. /a is a, a.html or a/index.html. What does not exist shows 404.html where there is
// one. Names that begin with a dot do not exist, but for .well-known (RFC 8615). The files
// must not change while it runs.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	dir := flag.String("root", ".", "the directory to serve")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, os.Getenv("PORT")); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends and then finishes the requests that it has.
func run(ctx context.Context, dir, port string) error {
	if port == "" {
		port = "8080"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	srv := &http.Server{Addr: ":" + port, Handler: &site{root: root, tags: map[string]string{}}, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- srv.Shutdown(last)
	}()
	log.Print("serving ", dir, " on port ", port)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

// A site is a directory; links that lead out of it do not exist.
type site struct {
	root *os.Root

	mu   sync.Mutex
	tags map[string]string // of files that were asked for
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are possible here", http.StatusMethodNotAllowed)
		return
	}
	name, slash, ok := s.find(r.URL.Path)
	switch {
	case !ok:
		s.missing(w, r)
	case slash:
		to := *r.URL
		to.Path, to.RawPath, to.Scheme, to.Host = path.Clean("/"+to.Path)+"/", "", "", ""
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
	default:
		s.serve(w, r, name)
	}
}

// find is the file for a path; slash means that it is a directory's and the path does not say so.
func (s *site) find(asked string) (name string, slash, ok bool) {
	name = strings.TrimPrefix(path.Clean("/"+asked), "/")
	if hidden(name) {
		return "", false, false
	}
	if name == "" {
		return "index.html", false, s.file("index.html")
	}
	if strings.HasSuffix(asked, "/") {
		return name + "/index.html", false, s.file(name + "/index.html")
	}
	for _, n := range []string{name, name + ".html"} {
		if s.file(n) {
			return n, false, true
		}
	}
	return name, true, s.file(name + "/index.html")
}

func hidden(name string) bool {
	for _, piece := range strings.Split(name, "/") {
		if strings.HasPrefix(piece, ".") && piece != ".well-known" {
			return true
		}
	}
	return false
}

func (s *site) file(name string) bool {
	info, err := s.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func (s *site) serve(w http.ResponseWriter, r *http.Request, name string) {
	f, info, err := s.open(name)
	if err != nil {
		http.Error(w, "the file cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	tag, err := s.tag(name, f)
	if err != nil {
		http.Error(w, "the file cannot be read", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache") // keep, but ask whether it is still the same
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, name, info.ModTime(), f)
}

func (s *site) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// tag is a file's strong ETag, counted when it is first asked for.
func (s *site) tag(name string, f *os.File) (string, error) {
	s.mu.Lock()
	tag := s.tags[name]
	s.mu.Unlock()
	if tag != "" {
		return tag, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	tag = `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15]) + `"`
	s.mu.Lock()
	s.tags[name] = tag
	s.mu.Unlock()
	return tag, nil
}

// missing answers 404 with the site's own page or a plain sentence.
func (s *site) missing(w http.ResponseWriter, r *http.Request) {
	f, _, err := s.open("404.html")
	if err != nil {
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	if r.Method == http.MethodGet {
		_, _ = io.Copy(w, f) // a reader that went away needs no page
	}
}
