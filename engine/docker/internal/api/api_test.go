package api_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

func router() *api.Router {
	rt := api.NewRouter(slog.New(slog.DiscardHandler), "1.0")
	say := func(what string) api.Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			_, err := fmt.Fprintf(w, "%s %s%s %s", what, r.PathValue("id"), api.Name(r), api.Version(r))
			return err
		}
	}
	rt.Handle("GET /containers/json", say("list"))
	rt.Handle("GET /containers/{id}/json", say("inspect"))
	rt.Handle("GET /images/json", say("images"))
	rt.HandleName("GET", "/images/", "/json", say("image"))
	rt.HandleName("DELETE", "/images/", "", say("remove"))
	rt.Handle("GET /fault", func(http.ResponseWriter, *http.Request) error { return fault.Conflict("taken").Try("wait") })
	rt.Handle("GET /full", func(http.ResponseWriter, *http.Request) error { return fault.Full("no room") })
	rt.Handle("GET /same", func(http.ResponseWriter, *http.Request) error { return api.NotModified() })
	rt.Handle("GET /bug", func(http.ResponseWriter, *http.Request) error { panic("bug") })
	rt.Handle("POST /decode", func(w http.ResponseWriter, r *http.Request) error {
		var v struct{ A int }
		if err := api.Decode(r, &v); err != nil {
			return err
		}
		return api.JSON(w, http.StatusCreated, v)
	})
	return rt
}

func TestRoutesErrorsAndVersions(t *testing.T) {
	for _, c := range []struct {
		request string
		status  int
		answer  string
	}{
		{"GET /containers/json", 200, "list  1.56"},
		{"GET /v1.41/containers/json", 200, "list  1.41"},
		{"GET /v1.41/containers/abc/json", 200, "inspect abc 1.41"},
		{"GET /images/json", 200, "images  1.56"},
		{"GET /images/host:5000/a/b:tag/json", 200, "image host:5000/a/b:tag 1.56"},
		{"GET /v1.30/images/a%2Fb/json", 200, "image a/b 1.30"},
		{"DELETE /v1.30/images/a/b@sha256:12", 200, "remove a/b@sha256:12 1.30"},
		{"GET /v1.23/containers/json", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"},
		{"GET /v1.99/containers/json", 400, `{"message":"client version 1.99 is too new. Maximum supported API version is 1.56"}` + "\n"},
		{"POST /containers/json", 404, `{"message":"page not found"}` + "\n"},
		{"GET /containers//json", 404, `{"message":"page not found"}` + "\n"},
		{"GET /volumes/x", 404, `{"message":"page not found"}` + "\n"},
		{"GET /fault", 409, `{"message":"taken; wait"}` + "\n"},
		{"GET /full", 500, `{"message":"no room"}` + "\n"},
		{"GET /same", 304, ""},
		{"GET /bug", 500, `{"message":"Something went wrong"}` + "\n"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		w := httptest.NewRecorder()
		router().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != c.status || w.Body.String() != c.answer {
			t.Errorf("%s: %d %q, want %d %q", c.request, w.Code, w.Body, c.status, c.answer)
		}
		for k, want := range map[string]string{
			"Api-Version": "1.56", "Docker-Experimental": "false", "Ostype": "linux", "Server": "Sampan/1.0 (linux)",
		} {
			if got := w.Header().Get(k); got != want {
				t.Errorf("%s: header %s is %q", c.request, k, got)
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		kind, body string
		status     int
		answer     string
	}{
		{"application/json", `{"A":1}`, 201, `{"A":1}`},
		{"application/json; charset=utf-8", `{"A":1}`, 201, `{"A":1}`},
		{"", "", 400, "got EOF"},
		{"", "{}", 400, "malformed Content-Type"},
		{"text/plain", "{}", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"application/json", "{", 400, "invalid JSON"},
		{"application/json", "{}{}", 400, "invalid JSON"},
		{"application/json", `{"B":"` + strings.Repeat("x", 9<<20) + `"}`, 400, "larger than"},
	} {
		r := httptest.NewRequest("POST", "/decode", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		router().ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.answer) {
			t.Errorf("%q: %d %s", c.body[:min(len(c.body), 20)], w.Code, w.Body)
		}
	}
}

func TestFilters(t *testing.T) {
	labels := map[string]string{"a": "b", "empty": ""}
	for _, c := range []struct {
		text string
		want bool
	}{
		{``, true},
		{`{"label":{"a=b":true}}`, true},
		{`{"label":["a=b"]}`, true},
		{`{"label":["a"]}`, true},
		{`{"label":["a=c"]}`, false},
		{`{"label":["a","x"]}`, false},
		{`{"label":["empty="]}`, true},
		{`{"label!":["a"]}`, false},
		{`{"label!":["x"]}`, true},
		{`{"name":["nothing"]}`, true},
	} {
		f, err := api.ParseFilters(c.text)
		if err != nil || f.MatchLabels(labels) != c.want {
			t.Errorf("%s: %v, %v", c.text, f.MatchLabels(labels), err)
		}
	}
	f, _ := api.ParseFilters(`{"name":["^web","x"],"id":["ab"],"dangling":["true"],"bad":["maybe"]}`)
	for what, ok := range map[string]bool{
		"pattern":     f.MatchPattern("name", "web-1") && !f.MatchPattern("name", "my-web"),
		"prefix":      f.MatchPrefix("id", "abc") && !f.MatchPrefix("id", "b"),
		"exact":       f.Match("id", "ab") && !f.Match("id", "abc") && f.Match("none", "any"),
		"any":         f.MatchAny("id", "x", "ab") && !f.MatchAny("id", "x"),
		"in order":    fmt.Sprint(f.Get("name")) == "[^web x]",
		"not allowed": fmt.Sprint(f.Check("name", "id", "dangling")) == "invalid filter 'bad'",
	} {
		if !ok {
			t.Error(what)
		}
	}
	if yes, err := f.Bool("dangling", false); !yes || err != nil {
		t.Error(yes, err)
	}
	if _, err := f.Bool("bad", false); fmt.Sprint(err) != "invalid filter 'bad=[maybe]'" {
		t.Error(err)
	}
	if _, err := api.ParseFilters("["); err == nil {
		t.Error("nonsense was taken")
	}
}

func FuzzParseFilters(f *testing.F) {
	f.Add(`{"label":{"a=b":true}}`)
	f.Add(`{"label":["a=b"],"name":["("]}`)
	f.Fuzz(func(t *testing.T, text string) {
		filters, err := api.ParseFilters(text)
		if err != nil {
			return
		}
		filters.MatchLabels(map[string]string{"a": "b"})
		filters.MatchPattern("name", "x")
		_, _ = filters.Bool("dangling", false)
	})
}

func TestMuxIsReadByDockersOwnReader(t *testing.T) {
	var both, out, errs bytes.Buffer
	m := api.NewMux(&both)
	long := strings.Repeat("x", 100_000)
	fmt.Fprint(m.Writer(api.Stdout), "one")
	fmt.Fprint(m.Writer(api.Stderr), "two")
	fmt.Fprint(m.Writer(api.Stdout), long)
	if _, err := stdcopy.StdCopy(&out, &errs, &both); err != nil {
		t.Fatal(err)
	}
	if out.String() != "one"+long || errs.String() != "two" {
		t.Errorf("%d bytes, %q", out.Len(), errs.String())
	}
}

func TestHijack(t *testing.T) {
	rt := api.NewRouter(slog.New(slog.DiscardHandler), "1.0")
	rt.Handle("POST /echo", func(w http.ResponseWriter, r *http.Request) error {
		c, err := api.Hijack(w, r, true)
		if err != nil {
			return err
		}
		defer c.Close()
		text, _ := io.ReadAll(c)
		if r.Context().Err() != nil {
			t.Error("half a close ended the request")
		}
		fmt.Fprintf(c, "%s!", text)
		return c.CloseWrite()
	})
	s := httptest.NewServer(rt)
	defer s.Close()
	for _, c := range []struct{ path, headers, status, kind string }{
		{"/echo", "Connection: Upgrade\r\nUpgrade: tcp\r\n", "101 UPGRADED", "application/vnd.docker.multiplexed-stream"},
		{"/v1.41/echo", "Connection: Upgrade\r\nUpgrade: tcp\r\n", "101 UPGRADED", "application/vnd.docker.raw-stream"},
		{"/echo", "", "200 OK", "application/vnd.docker.raw-stream"},
	} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\nhello", c.path, c.headers)
		conn.(*net.TCPConn).CloseWrite()
		b := bufio.NewReader(conn)
		answer, err := io.ReadAll(b)
		if err != nil {
			t.Fatal(err)
		}
		text := string(answer)
		if !strings.HasPrefix(text, "HTTP/1.1 "+c.status+"\r\n") || !strings.Contains(text, "Content-Type: "+c.kind+"\r\n") ||
			!strings.HasSuffix(text, "\r\n\r\nhello!") || !strings.Contains(text, "Api-Version: 1.56\r\n") {
			t.Errorf("%s: %q", c.path, text)
		}
		conn.Close()
	}
}

func TestStreamFailsInItsLastLine(t *testing.T) {
	rt := api.NewRouter(slog.New(slog.DiscardHandler), "1.0")
	rt.Handle("GET /late", func(w http.ResponseWriter, r *http.Request) error {
		s := api.Stream(w)
		if err := s.Send(map[string]string{"status": "<begun>"}); err != nil {
			return err
		}
		return s.Fail(fault.NotFound("gone"))
	})
	rt.Handle("GET /early", func(w http.ResponseWriter, r *http.Request) error {
		return api.Stream(w).Fail(fault.NotFound("gone"))
	})
	for path, want := range map[string]string{
		"/late":  "200 {\"status\":\"<begun>\"}\n{\"error\":\"gone\",\"errorDetail\":{\"code\":404,\"message\":\"gone\"}}\n",
		"/early": "404 {\"message\":\"gone\"}\n",
	} {
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if got := fmt.Sprint(w.Code, " ", w.Body); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestHangupIsTheEndOfBothWays(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan bool, 1)
	rt := api.NewRouter(slog.New(slog.DiscardHandler), "1.0")
	rt.Handle("POST /watch", func(w http.ResponseWriter, r *http.Request) error {
		c, err := api.Hijack(w, r, false)
		if err != nil {
			return err
		}
		defer c.Close()
		gone <- c.Hangup()
		return nil
	})
	s := &http.Server{Handler: rt}
	go s.Serve(l)
	defer s.Close()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /watch HTTP/1.1\r\nHost: x\r\n\r\nrest")
	conn.(*net.UnixConn).CloseWrite()
	select {
	case <-gone:
		t.Fatal("half a close was taken for a whole one")
	case <-time.After(100 * time.Millisecond):
	}
	conn.Close()
	select {
	case ok := <-gone:
		if !ok {
			t.Error("it was not seen")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the close was not seen")
	}
}
