package web_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"

	"sampan.dev/sampan/web"
)

func serve(t testing.TB, app *web.App) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(app)
	t.Cleanup(s.Close)
	return s
}

func fetch(t testing.TB, method, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, b
}

func TestRouting(t *testing.T) {
	app := web.New(web.Config{})
	for _, p := range []string{"GET /{$}", "GET /{owner}", "GET /{owner}/{repo}/settings", "GET /-/apps/{name}", "POST /-/apps/{name}", "/-/any", "GET /files/{path...}"} {
		app.Handle(p, func(w http.ResponseWriter, r *http.Request) error {
			_, err := fmt.Fprint(w, r.Pattern)
			return err
		})
	}
	app.Mount("/mounted/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "mounted ", r.URL.Path) }))
	s := serve(t, app)
	for _, c := range []struct {
		sentence, method, path string
		status                 int
		body, header           string
	}{
		{"the root is itself only", "GET", "/", 200, "GET /{$}", ""},
		{"a wildcard takes one part", "GET", "/ann", 200, "GET /{owner}", ""},
		{"a literal first part comes before wildcards", "GET", "/-/apps/settings", 200, "GET /-/apps/{name}", ""},
		{"what a literal part lacks no wildcard has", "GET", "/-/x/settings", 404, "there is nothing at this address\n", ""},
		{"a method that no pattern has is refused with those that do", "DELETE", "/-/apps/x", 405, "this address does not answer to DELETE\n", "Allow: GET, HEAD, POST"},
		{"HEAD is GET without a body", "HEAD", "/ann", 200, "", ""},
		{"a pattern without a method takes all", "PATCH", "/-/any", 200, "/-/any", ""},
		{"the rest of a path may have slashes", "GET", "/files/a/b", 200, "GET /files/{path...}", ""},
		{"a path is cleaned by sending the browser there", "GET", "/files/../ann", 307, "", "Location: /ann"},
		{"a mount takes its prefix", "GET", "/mounted", 200, "mounted /mounted", ""},
		{"and all below", "POST", "/mounted/x", 200, "mounted /mounted/x", ""},
		{"but not what only begins the same", "GET", "/mountedx", 200, "GET /{owner}", ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			res, body := fetch(t, c.method, s.URL+c.path)
			if res.StatusCode != c.status || c.status != 307 && string(body) != c.body {
				t.Errorf("answered %d %q", res.StatusCode, body)
			}
			if name, value, ok := strings.Cut(c.header, ": "); ok && res.Header.Get(name) != value {
				t.Errorf("%s is %q", name, res.Header.Get(name))
			}
			if res.Header.Get("X-Request-Id") == "" {
				t.Error("no request id")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	var log bytes.Buffer
	app := web.New(web.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	app.Handle("GET /leak", func(http.ResponseWriter, *http.Request) error { return errors.New("password is x") })
	app.Handle("GET /panic", func(http.ResponseWriter, *http.Request) error { panic("oar broke") })
	app.Handle("GET /user", func(http.ResponseWriter, *http.Request) error { return web.Error(422, "no") })
	app.Handle("GET /half", func(w http.ResponseWriter, r *http.Request) error {
		if _, err := fmt.Fprint(w, strings.Repeat("half", 1000)); err != nil {
			return err
		}
		return errors.New("the other half is gone")
	})
	s := serve(t, app)
	for _, c := range []struct {
		sentence, path string
		status         int
		body, log      string
	}{
		{"an unknown error is logged, not shown", "/leak", 500, "something went wrong", "password is x"},
		{"a panic is an error of its request", "/panic", 500, "something went wrong", "oar broke"},
		{"a user's error is shown, not logged", "/user", 422, "no\n", ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			log.Reset()
			res, body := fetch(t, "GET", s.URL+c.path)
			if res.StatusCode != c.status || !strings.HasPrefix(string(body), c.body) {
				t.Errorf("answered %d %q", res.StatusCode, body)
			}
			if c.log == "" != (log.Len() == 0) || !strings.Contains(log.String(), c.log) {
				t.Errorf("logged %q", &log)
			}
			if id := res.Header.Get("X-Request-Id"); c.log != "" && !strings.Contains(log.String(), id) {
				t.Errorf("the log lacks the id %s", id)
			}
		})
	}
	t.Run("half an answer does not look like a whole one", func(t *testing.T) {
		res, err := http.Get(s.URL + "/half")
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if err == nil {
			t.Error("the client took it for whole")
		}
	})
}

func TestOtherSitesCannotPost(t *testing.T) {
	app := web.New(web.Config{Origins: []string{"https://friend.example"}})
	app.Handle("/{$}", func(http.ResponseWriter, *http.Request) error { return nil })
	s := serve(t, app)
	for _, c := range []struct {
		sentence, method string
		header           []string
		status           int
	}{
		{"a form of our own", "POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", s.URL}, 200},
		{"a program", "POST", nil, 200},
		{"another site's form", "POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"an app on our own domain", "POST", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://app.localhost"}, 403},
		{"a site that we trust", "POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://friend.example"}, 200},
		{"a link from another site", "GET", []string{"Sec-Fetch-Site", "cross-site"}, 200},
		{"an old browser on another site", "POST", []string{"Origin", "https://evil.example"}, 403},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if res, body := fetch(t, c.method, s.URL, c.header...); res.StatusCode != c.status {
				t.Errorf("answered %d %s", res.StatusCode, body)
			}
		})
	}
}

// TestResponseController goes through all of an App's writers to the connection.
func TestResponseController(t *testing.T) {
	app := web.New(web.Config{})
	app.Handle("GET /controls", func(w http.ResponseWriter, r *http.Request) error {
		c := http.NewResponseController(w)
		soon := time.Now().Add(time.Minute)
		if err := errors.Join(c.SetReadDeadline(soon), c.SetWriteDeadline(soon), c.EnableFullDuplex()); err != nil {
			return err
		}
		fmt.Fprint(w, "first")
		return c.Flush()
	})
	app.Handle("GET /hijack", func(w http.ResponseWriter, r *http.Request) error {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: boat\r\nConnection: Upgrade\r\n\r\nahoy")
		return rw.Flush()
	})
	s := serve(t, app)
	if res, body := fetch(t, "GET", s.URL+"/controls"); res.StatusCode != 200 || string(body) != "first" {
		t.Errorf("answered %d %s", res.StatusCode, body)
	}
	for _, upgrade := range []string{"Upgrade: boat\r\nConnection: Upgrade\r\n", ""} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /hijack HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n%s\r\n", upgrade)
		b, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(b), "ahoy") {
			t.Errorf("answered %q, %v", b, err)
		}
	}
}

func TestCompression(t *testing.T) {
	text := strings.Repeat("The boat is small and simple. ", 400)
	app := web.New(web.Config{})
	answer := func(path, contentType, body string, header ...string) {
		app.Handle("GET "+path, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", contentType)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			for chunk := range strings.SplitAfterSeq(body, ".") {
				if _, err := io.WriteString(w, chunk); err != nil {
					return err
				}
			}
			return nil
		})
	}
	answer("/text", "text/html; charset=utf-8", text, "ETag", `"1"`)
	answer("/sized", "application/json", text, "Content-Length", fmt.Sprint(len(text)))
	answer("/small", "text/plain", "small")
	answer("/image", "image/png", text)
	answer("/encoded", "text/plain", text, "Content-Encoding", "br")
	answer("/kept", "text/plain", text, "Cache-Control", "no-transform")
	s := serve(t, app)
	for _, c := range []struct{ sentence, path, accept, want string }{
		{"text is sent with gzip", "/text", "gzip", "gzip"},
		{"zstd comes before gzip", "/text", "gzip, deflate, br, zstd", "zstd"},
		{"but not against the client's wish", "/text", "gzip, zstd;q=0.1", "gzip"},
		{"a refused encoding is not used", "/text", "gzip;q=0", ""},
		{"a star takes any", "/text", "*", "zstd"},
		{"a client that says nothing gets none", "/text", "", ""},
		{"a known length does not hinder", "/sized", "zstd", "zstd"},
		{"a small answer is not worth it", "/small", "gzip", ""},
		{"an image is small already", "/image", "gzip", ""},
		{"what is encoded stays", "/encoded", "gzip", "br"},
		{"what must not be changed is not", "/kept", "gzip", ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			res, body := fetch(t, "GET", s.URL+c.path, "Accept-Encoding", c.accept)
			if got := res.Header.Get("Content-Encoding"); got != c.want {
				t.Fatalf("encoded %q, want %q", got, c.want)
			}
			if got := unpack(t, c.want, body); c.path != "/small" && got != text {
				t.Errorf("%d bytes came back as %d", len(text), len(got))
			}
			if c.path == "/text" {
				if res.Header.Get("Vary") != "Accept-Encoding" {
					t.Error("caches are not told")
				}
				if weak := strings.HasPrefix(res.Header.Get("ETag"), "W/"); weak != (c.want != "") {
					t.Errorf("tag %s", res.Header.Get("ETag"))
				}
			}
		})
	}
}

func unpack(t *testing.T, encoding string, b []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch encoding {
	case "gzip":
		g, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = g
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestEventsComeAtOnce reads each event before the next is sent.
// patient notes what deadlines its connection gets.
type patient struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (p *patient) SetWriteDeadline(t time.Time) error {
	p.deadlines = append(p.deadlines, t)
	return nil
}

func TestEventsWaitForNoBrowserThatDoesNotRead(t *testing.T) {
	p := &patient{ResponseRecorder: httptest.NewRecorder()}
	events, err := web.NewEvents(p, httptest.NewRequest("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Ping(); err != nil {
		t.Fatal(err)
	}
	n := len(p.deadlines)
	if n < 2 || p.deadlines[n-2].IsZero() || !p.deadlines[n-1].IsZero() {
		t.Errorf("the deadlines are %v; want one while sending and none afterwards", p.deadlines)
	}
}

func TestEventsComeAtOnce(t *testing.T) {
	app := web.New(web.Config{})
	next := make(chan string)
	app.Handle("GET /events", func(w http.ResponseWriter, r *http.Request) error {
		e, err := web.NewEvents(w, r)
		if err != nil {
			return err
		}
		for text := range next {
			if err := e.Send("", "", []byte(text)); err != nil {
				return err
			}
		}
		return nil
	})
	s := serve(t, app)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip, zstd")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, text := range []string{"one", "two"} {
		next <- text
		line, err := lines.ReadString('\n')
		if err != nil || line != "data: "+text+"\n" {
			t.Fatalf("read %q, %v", line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(next)
}

func TestSessions(t *testing.T) {
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	site := func(cfg web.Config) *web.App {
		app := web.New(cfg)
		app.Handle("POST /set/{value}", func(w http.ResponseWriter, r *http.Request) error {
			web.SessionOf(r).Set("v", r.PathValue("value"))
			return nil
		})
		app.Handle("GET /get", func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.WriteString(w, web.SessionOf(r).Get("v"))
			return err
		})
		return app
	}
	cookie := func(app *web.App, target string) (string, string) {
		w := httptest.NewRecorder()
		app.ServeHTTP(w, httptest.NewRequest("POST", target, nil))
		set := w.Header().Get("Set-Cookie")
		pair, _, _ := strings.Cut(set, ";")
		return pair, set
	}
	get := func(app *web.App, target, cookie string) string {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", target, nil)
		r.Header.Set("Cookie", cookie)
		app.ServeHTTP(w, r)
		return w.Body.String()
	}
	old, rotated, other := site(web.Config{Keys: [][]byte{key(1)}}), site(web.Config{Keys: [][]byte{key(2), key(1)}}), site(web.Config{Keys: [][]byte{key(3)}})
	plain, attributes := cookie(old, "/set/ann")
	for _, c := range []struct{ sentence, got, want string }{
		{"a session comes back", get(old, "/get", plain), "ann"},
		{"a key that was replaced still opens", get(rotated, "/get", plain), "ann"},
		{"a stranger's key does not", get(other, "/get", plain), ""},
		{"a changed cookie does not open", get(old, "/get", plain[:len(plain)-2]+"AA"), ""},
		{"a cookie of another name does not open", get(site(web.Config{Keys: [][]byte{key(1)}, Cookie: "x"}), "/get", "x"+strings.TrimPrefix(plain, "session")), ""},
		{"one made without TLS is no cookie of TLS", get(old, "https://example.org/get", plain), ""},
		{"an expired session is gone", get(site(web.Config{Keys: [][]byte{key(1)}, SessionAge: time.Nanosecond}), "/get", plain), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q", c.sentence, c.got)
		}
	}
	for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(attributes, want) || strings.Contains(attributes, "Secure") {
			t.Errorf("cookie without TLS: %s", attributes)
		}
	}
	if _, set := cookie(old, "https://example.org/set/ann"); !strings.HasPrefix(set, "__Host-session=") || !strings.Contains(set, "Secure") {
		t.Errorf("cookie on TLS: %s", set)
	}
	if strings.Contains(plain, "ann") {
		t.Error("the cookie can be read")
	}
	if _, set := cookie(old, "/set/"+strings.Repeat("x", 5000)); set != "" {
		t.Error("a cookie that browsers drop was sent")
	}
}

func TestBind(t *testing.T) {
	type embedded struct {
		Page int `query:"page"`
	}
	type input struct {
		embedded
		Name  string                `form:"name" max:"5"`
		Wait  time.Duration         `form:"wait"`
		When  time.Time             `form:"when"`
		Small uint8                 `form:"small"`
		Ratio float64               `form:"ratio"`
		Tags  []string              `form:"tag"`
		File  *multipart.FileHeader `form:"file"`
	}
	var got input
	app := web.New(web.Config{MaxBody: 2000})
	app.Handle("POST /{$}", func(w http.ResponseWriter, r *http.Request) error {
		got = input{}
		return web.Bind(r, &got)
	})
	s := serve(t, app)
	for _, c := range []struct {
		sentence, query, form string
		status                int
		body                  string
	}{
		{"each value finds its field", "?page=3", "name=oar&wait=90s&small=255&ratio=.5&tag=a&tag=b&when=2026-01-02T03:04:05Z", 200, ""},
		{"an empty number is left alone", "?page=", "small=", 200, ""},
		{"what is not asked for does not matter", "?x=1", "y=2", 200, ""},
		{"a number out of range", "", "small=256", 400, "small is out of range\n"},
		{"characters are counted, not bytes", "", "name=舢板舢板舢", 200, ""},
		{"a long text", "", "name=123456", 400, "name is longer than 5 characters\n"},
		{"a NUL", "", "name=%00", 400, "name is not plain text\n"},
		{"what is not UTF-8", "", "name=%ff", 400, "name is not plain text\n"},
		{"no number is not a number", "", "ratio=NaN", 400, "ratio must be a number\n"},
		{"everything wrong at once", "?page=x", "wait=soon", 400, "page must be a whole number; wait must be a time such as 90s or 5m\n"},
		{"a form that is cut off within a letter", "", "name=%f", 400, "the body is not a form: invalid URL escape \"%f\"\n"},
		{"a body over the limit", "", "name=" + strings.Repeat("x", 3000), 413, "the request is larger than 2000 bytes\n"},
		{"a thousand and one values", "?" + manyValues(1001), "", 400, "the query has more than 1000 values\n"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			res, err := http.Post(s.URL+"/"+c.query, "application/x-www-form-urlencoded", strings.NewReader(c.form))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.status || string(body) != c.body {
				t.Errorf("answered %d %q", res.StatusCode, body)
			}
		})
	}
	t.Run("a file comes with the form", func(t *testing.T) {
		var b bytes.Buffer
		m := multipart.NewWriter(&b)
		m.WriteField("name", "boat")
		part, _ := m.CreateFormFile("file", "boat.png")
		io.WriteString(part, "png")
		m.Close()
		res, err := http.Post(s.URL, m.FormDataContentType(), &b)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got.File == nil || got.File.Filename != "boat.png" || got.Name != "boat" {
			t.Errorf("got %+v", got)
		}
	})
}

func manyValues(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "v%d=&", i)
	}
	return b.String()
}

func TestLocalPath(t *testing.T) {
	for _, s := range []string{"", "x", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nSet-Cookie: x", "javascript:alert(1)", "\t//evil.example", "/%zz"} {
		if got := web.LocalPath(s); got != "/" {
			t.Errorf("%q leads to %q", s, got)
		}
	}
	for _, s := range []string{"/", "/ann/site?tab=1#top", "/-/apps"} {
		if got := web.LocalPath(s); got != s {
			t.Errorf("%q leads to %q", s, got)
		}
	}
}

func TestStaticFiles(t *testing.T) {
	s := web.NewStatic("/static/", false)
	css := strings.Repeat("b { color: red }\n", 200)
	if err := s.Add("", fstest.MapFS{"site.css": {Data: []byte(css)}, "boat.png": {Data: []byte("\x89PNG\r\n")}}); err != nil {
		t.Fatal(err)
	}
	app := web.New(web.Config{})
	app.Mount("/static/", s)
	srv := serve(t, app)
	res, body := fetch(t, "GET", srv.URL+s.URL("site.css"), "Accept-Encoding", "gzip, zstd")
	if res.Header.Get("Content-Encoding") != "zstd" || unpack(t, "zstd", body) != css || res.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("answered %v", res.Header)
	}
	if res, _ := fetch(t, "GET", srv.URL+s.URL("site.css"), "If-None-Match", res.Header.Get("ETag")); res.StatusCode != 304 {
		t.Errorf("what the browser has is sent again: %d", res.StatusCode)
	}
	stale := strings.Replace(s.URL("site.css"), ".css", "x.css", 1)
	if res, _ := fetch(t, "GET", srv.URL+stale); res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("an old page's address: %d %v", res.StatusCode, res.Header)
	}
	for _, path := range []string{"/static/", "/static/none.css", "/static/../web.go", "/static/site.css/x"} {
		if res, _ := fetch(t, "GET", srv.URL+path); res.StatusCode == 200 {
			t.Errorf("%s is there", path)
		}
	}
}

func TestDevelopment(t *testing.T) {
	files := fstest.MapFS{"boat.html": {Data: []byte("one\ntwo\n{{.Oar.Blade}}\nfour")}}
	tmpl, err := web.NewTemplates(web.TemplatesConfig{Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := tmpl.Add(files); err != nil {
		t.Fatal(err)
	}
	app := web.New(web.Config{Dev: true})
	app.Handle("GET /boat", func(w http.ResponseWriter, r *http.Request) error {
		return tmpl.Render(w, "en", "boat", "boat.html", struct{ Sail int }{})
	})
	app.Handle("GET /panic", func(http.ResponseWriter, *http.Request) error {
		panic("no oar") // this very line
	})
	s := serve(t, app)
	if _, body := fetch(t, "GET", s.URL+"/boat"); !strings.Contains(string(body), "boat.html:3") || !strings.Contains(string(body), "class=\"fault\">   3  {{.Oar.Blade}}") {
		t.Errorf("the error does not show its line:\n%s", body)
	}
	if _, body := fetch(t, "GET", s.URL+"/panic"); !strings.Contains(string(body), "this very line") {
		t.Errorf("the panic does not show its line:\n%s", body)
	}
	files["boat.html"] = &fstest.MapFile{Data: []byte("mended")}
	if _, body := fetch(t, "GET", s.URL+"/boat"); string(body) != "mended" {
		t.Errorf("the change does not show: %s", body)
	}
	if disk := web.OnDisk(fstest.MapFS{"web_test.go": {}}, 0); fmt.Sprint(disk) != fmt.Sprint(os.DirFS(".")) && !strings.HasSuffix(fmt.Sprint(disk), "/web") {
		t.Errorf("the source is not found on disk: %v", disk)
	}
}
