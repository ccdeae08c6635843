package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// open makes a site of files.
func open(t *testing.T, files map[string]string) *site {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "way-out")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &site{root: root, tags: map[string]string{}}
}

func ask(s *site, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestSite(t *testing.T) {
	s := open(t, map[string]string{
		"index.html": "<p>start", "a.css": "b{}", "about.html": "<p>about", "docs/index.html": "<p>docs",
		".env": "secret", ".git/config": "secret", ".well-known/x": "known", "404.html": "<p>lost", "empty/x.txt": "x",
	})
	for _, c := range []struct {
		what, method, path string
		code               int
		kind, body         string
	}{
		{"the start page", "GET", "/", 200, "text/html", "start"},
		{"a style sheet", "GET", "/a.css", 200, "text/css", "b{}"},
		{"a page without its ending", "GET", "/about", 200, "text/html", "about"},
		{"a directory is redirected to its slash", "GET", "/docs?x=1", 301, "", "/docs/?x=1"},
		{"a path that begins with two slashes leads to no other host", "GET", "//docs", 301, "", `"/docs/"`},
		{"a directory's page", "GET", "/docs/", 200, "text/html", "docs"},
		{"a directory without a page", "GET", "/empty/", 404, "text/html", "lost"},
		{"a hidden file", "GET", "/.env", 404, "text/html", "lost"},
		{"a file of a hidden directory", "GET", "/.git/config", 404, "text/html", "lost"},
		{"a well-known file", "GET", "/.well-known/x", 200, "", "known"},
		{"a way up", "GET", "/../../etc/passwd", 404, "text/html", "lost"},
		{"a link that leads out", "GET", "/way-out", 404, "text/html", "lost"},
		{"a post", "POST", "/", 405, "", "only GET"},
		{"a zero byte", "GET", "/a%00", 404, "text/html", "lost"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := ask(s, c.method, c.path)
			if w.Code != c.code || !strings.HasPrefix(w.Header().Get("Content-Type"), c.kind) || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %s %q", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
		})
	}
}

func TestConditionsAndRanges(t *testing.T) {
	s := open(t, map[string]string{"x.txt": "0123456789"})
	tag := ask(s, "GET", "/x.txt").Header().Get("ETag")
	if w := ask(s, "GET", "/x.txt", "If-None-Match", tag); w.Code != http.StatusNotModified {
		t.Errorf("the same ETag: %d", w.Code)
	}
	if w := ask(s, "GET", "/x.txt", "Range", "bytes=2-4"); w.Code != http.StatusPartialContent || w.Body.String() != "234" {
		t.Errorf("a range: %d %q", w.Code, w.Body)
	}
	if w := ask(s, "HEAD", "/x.txt"); w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10" {
		t.Errorf("HEAD: %v", w.Header())
	}
	if other := ask(open(t, map[string]string{"x.txt": "different!"}), "GET", "/x.txt").Header().Get("ETag"); other == tag {
		t.Error("different content has the same ETag")
	}
}
