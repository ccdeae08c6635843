package ui_test

import (
	"errors"
	"html/template"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

// site is a small site with a page of every component.
type site struct {
	*httptest.Server
	ui      *ui.UI
	events  chan func(*web.Events) error
	version atomic.Int64
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{ui: ui.New(ui.Config{}), events: make(chan func(*web.Events) error)}
	if err := s.ui.Add(os.DirFS("testdata"), nil); err != nil {
		t.Fatal(err)
	}
	app := web.New(web.Config{Error: s.ui.Error})
	s.ui.Routes(app)
	app.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !r.URL.Query().Has("stranger") {
				r = identity.WithWho(r, identity.Who{ID: 1, Name: "ann"})
			}
			next.ServeHTTP(w, r)
		})
	})
	for path, name := range map[string]string{"/repo": "demo-repo", "/-/apps/hello": "demo-app", "/form": "demo-form"} {
		app.Handle("GET "+path, func(w http.ResponseWriter, r *http.Request) error {
			return s.ui.Render(w, r, name, s.data(r))
		})
	}
	app.Handle("GET /fragment", func(w http.ResponseWriter, r *http.Request) error {
		return s.ui.Fragment(w, r, "demo-app", "fresh", s.data(r))
	})
	app.Handle("GET /stream", s.stream)
	app.Handle("POST /flash", func(w http.ResponseWriter, r *http.Request) error {
		web.Flash(r, "done", "The <b>release</b> is out")
		return web.Redirect(w, r, "/form")
	})
	app.Handle("GET /fault", func(http.ResponseWriter, *http.Request) error {
		return fault.NotFound("no such repository").Try("look at the list of repositories")
	})
	app.Handle("GET /private", func(http.ResponseWriter, *http.Request) error { return fault.SignIn("who are you?") })
	app.Handle("GET /broken", func(http.ResponseWriter, *http.Request) error { return errors.New("secret detail") })
	s.Server = httptest.NewServer(app)
	t.Cleanup(s.Close)
	return s
}

func (s *site) stream(w http.ResponseWriter, r *http.Request) error {
	e, err := web.NewEvents(w, r)
	if err != nil {
		return err
	}
	for {
		select {
		case send := <-s.events:
			if err := send(e); err != nil {
				return err
			}
		case <-r.Context().Done():
			return nil
		}
	}
}

func (s *site) data(r *http.Request) any {
	stream := ""
	if r.URL.Query().Has("live") {
		stream = "/stream"
	}
	now := time.Now()
	wave := func(base, height float64) []float64 {
		v := make([]float64, 90)
		for i := range v {
			v[i] = base + height*math.Sin(float64(i)/7) + height/3*math.Sin(float64(i))
		}
		v[40] = math.NaN()
		return v
	}
	line := func(source, stream, text string) ui.LogLine {
		return ui.LogLine{Time: now, Source: source, Stream: stream, Text: text}
	}
	type row struct{ Name, State string }
	return map[string]any{
		"Stream": stream, "Recent": now.Add(-3 * time.Minute), "Version": s.version.Load(),
		"Errors": ui.Errors{"name": "a name has letters, digits, “-” and “.”, and no spaces"},
		"Tree": []ui.TreeRow{
			{"static", "/t", "dir", "Draw the boat before the waves", "/c", now.Add(-time.Hour)},
			{"vendor", "/t", "module", "Pin the library", "/c", now.Add(-50 * time.Hour)},
			{"go.mod", "/t", "file", "Use Go 1.26", "/c", now.Add(-2000 * time.Hour)},
			{"main.go", "/t", "file", "Answer with the name of the boat, and with a much longer message than fits here", "/c", now},
		},
		"Diff": []ui.DiffLine{
			{Kind: "hunk", HTML: "@@ -3,4 +3,5 @@ func main()"}, {Old: 3, New: 3, HTML: "func main() {"},
			{Kind: "del", Old: 4, HTML: template.HTML(`	fmt.Println(&#34;hello&#34;)`)},
			{Kind: "add", New: 4, HTML: template.HTML(`	fmt.Println(&#34;hello, 舢板&#34;)`)}, {Kind: "add", New: 5, HTML: "	os.Exit(0)"},
			{Old: 5, New: 6, HTML: "}"},
		},
		"Rows":   []row{{"web.1", "running"}, {"web.2", "starting"}, {"worker.1", "crashed"}},
		"States": []string{"running", "starting", "stopping", "stopped", "crashed", "failed", "waiting", "building", "done", "unheard-of"},
		"Values": wave(20, 15),
		"Plots": []ui.Plot{
			{Title: "Requests", Unit: "/s", Values: wave(120, 60), Step: 10 * time.Second},
			{Title: "Latency p95", Unit: "ms", Values: wave(4, 2), Step: 10 * time.Second},
			{Title: "CPU", Unit: "%", Values: wave(30, 20), Step: 10 * time.Second, Least: 100},
			{Title: "Memory", Unit: "bytes", Values: wave(40<<20, 9<<20), Step: 10 * time.Second, Limit: 128 << 20},
		},
		"Lines": []ui.LogLine{
			line("web.1", "stdout", "listening on :8080"), line("web.1", "stdout", "GET / 200 3ms"),
			line("worker.1", "stderr", "\x1b[31mpanic: no oar\x1b[0m"), line("sampan", "system", "worker.1 left with code 2; it starts again in 4 s"),
		},
	}
}

func (s *site) get(t *testing.T, path string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestPagesAndMessagesAreComplete(t *testing.T) {
	if err := newSite(t).ui.Check(); err != nil {
		t.Error(err)
	}
}

func TestPages(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		sentence, path string
		header         []string
		status         int
		want, not      []string
	}{
		{"a page lies in the layout", "/repo", nil, 200,
			[]string{"<!doctype html>", `<html lang="en" data-theme="auto">`, "<title>ann/site · Sampan</title>", `aria-current="true">`, "/-/sign-out"}, []string{"/-/sign-in", "no value"}},
		{"every component has what it is given", "/-/apps/hello", nil, 200,
			[]string{`class="status running"`, `class="status unknown"`, "panic: no oar", "24.7 MiB", `name="version" value="11"`, `data-when="fresh"`, `<figure class="plot">`}, []string{"\x1b", "no value", "ZgotmplZ"}},
		{"a mistake stands at its field", "/form", nil, 200, []string{`aria-invalid="true" aria-describedby="name-error"`, `id="name-error"`, "selected"}, []string{"no value", "ZgotmplZ"}},
		{"a browser that prefers Chinese gets Chinese", "/form", []string{"Accept-Language", "zh-CN,en;q=0.5"}, 200, []string{`lang="zh-Hans"`, "仓库"}, []string{"Repositories"}},
		{"the chosen language outdoes the browser's", "/form", []string{"Accept-Language", "zh-CN", "Cookie", "lang=en; theme=dark"}, 200, []string{`data-theme="dark"`, "Repositories"}, nil},
		{"a stranger is offered to sign in", "/form?stranger=1", nil, 200, []string{"/-/sign-in"}, []string{"/-/sign-out", "/-/settings"}},
		{"a fragment comes without the layout", "/fragment", nil, 200, []string{`id="version"`}, []string{"<html"}},
		{"a fault says what and what next", "/fault", nil, 404, []string{"No such repository", "Look at the list", "<html"}, nil},
		{"one who must sign in comes back", "/private?a=b", nil, 401, []string{`href="/-/sign-in?next=%2Fprivate%3Fa%3Db"`}, nil},
		{"a broken machine says nothing of itself", "/broken", nil, 500, []string{"Something went wrong", "in the log"}, []string{"secret"}},
		{"an address without a page has an error page", "/-/nowhere", nil, 404, []string{"There is nothing here", "<html"}, nil},
		{"a program gets an error it can read", "/fault", []string{"Accept", "application/json"}, 404, []string{`"message":"no such repository`}, []string{"<html"}},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			status, body := s.get(t, c.path, c.header...)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			for _, want := range c.want {
				if !strings.Contains(body, want) {
					t.Errorf("lacks %q:\n%s", want, body)
				}
			}
			for _, not := range c.not {
				if strings.Contains(body, not) {
					t.Errorf("has %q:\n%s", not, body)
				}
			}
		})
	}
}

func TestDevelopmentReadsTheSourceTree(t *testing.T) {
	u := ui.New(ui.Config{Dev: true})
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(dir+"/dev.html", []byte(`{{define "title"}}dev{{end}}{{define "main"}}`+text+`{{end}}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	if err := u.Add(os.DirFS(dir), nil); err != nil {
		t.Fatal(err)
	}
	show := func() (string, error) {
		w := httptest.NewRecorder()
		err := u.Render(w, httptest.NewRequest("GET", "/", nil), "dev", nil)
		return w.Body.String(), err
	}
	if body, err := show(); err != nil || !strings.Contains(body, "before") {
		t.Errorf("%v:\n%s", err, body)
	}
	write("after")
	if body, err := show(); err != nil || !strings.Contains(body, "after") {
		t.Errorf("%v:\n%s", err, body)
	}
	write("{{nonsense}}")
	if _, err := show(); err == nil || !strings.Contains(err.Error(), "dev.html:1") {
		t.Errorf("a mistake is told as %v", err)
	}
}

func TestLookIsRemembered(t *testing.T) {
	s := newSite(t)
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, c := range []struct{ sentence, form, cookie, location string }{
		{"the theme is kept", "theme=dark&back=/repo", "theme=dark", "/repo"},
		{"the language is kept", "lang=zh&back=/repo", "lang=zh", "/repo"},
		{"an unknown theme is not", "theme=pink&back=/repo", "", "/repo"},
		{"nobody is sent to another site", "theme=dark&back=https://evil.example", "theme=dark", "/"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			values, err := url.ParseQuery(c.form)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.PostForm(s.URL+"/-/look", values)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got := res.Header.Get("Location"); got != c.location || res.StatusCode != http.StatusSeeOther {
				t.Errorf("answered %s to %q", res.Status, got)
			}
			if got := res.Header.Get("Set-Cookie"); !strings.HasPrefix(got, c.cookie) || (c.cookie == "") != (got == "") {
				t.Errorf("cookie %q", got)
			}
		})
	}
}

func TestFormErrors(t *testing.T) {
	if e, ok := ui.FormErrors(fault.Conflict("taken").On("name")); !ok || e["name"] != "taken" {
		t.Error("a conflict belongs to its field:", e, ok)
	}
	if _, ok := ui.FormErrors(fault.NotFound("gone")); ok {
		t.Error("what is not there cannot be mended in the form")
	}
	if _, ok := ui.FormErrors(errors.New("disk")); ok {
		t.Error("a broken machine cannot be mended in the form")
	}
	if e, ok := ui.FormErrors(&web.InputError{Fields: []web.FieldError{{Name: "n", Reason: "is missing"}}}); !ok || e["n"] != "is missing" {
		t.Error("what Bind refuses belongs to its field:", e, ok)
	}
}

func TestWords(t *testing.T) {
	l := web.NewMessages("en").Locale("en")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ got, want string }{
		{ui.Bytes(0), "0 B"}, {ui.Bytes(1023), "1023 B"}, {ui.Bytes(1536), "1.5 KiB"}, {ui.Bytes(1 << 20), "1 MiB"}, {ui.Bytes(200 << 30), "200 GiB"},
		{ui.Number(7), "7"}, {ui.Number(-12345678), "-12,345,678"},
		{ui.Took(41 * time.Millisecond), "41 ms"}, {ui.Took(1200 * time.Millisecond), "1.2 s"}, {ui.Took(65 * time.Second), "1m 5s"}, {ui.Took(2 * time.Hour), "2h 0m"},
		{ui.Ago(l, now.Add(-time.Second), now), "ui.ago.now"}, {ui.Ago(l, now.Add(-40*24*time.Hour), now), "2026-01-20"},
		{ui.Plain("\x1b[1;32mok\x1b[0m \x1b]0;title\x07done"), "ok done"}, {ui.Plain("10%\r20%\r100%\r"), "100%"}, {ui.Plain("plain"), "plain"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// TestPlots draws what programs measure, which is not always a good number.
func TestPlots(t *testing.T) {
	u := ui.New(ui.Config{})
	if err := u.Add(fstest.MapFS{"plot.html": {Data: []byte(`{{define "title"}}{{end}}{{define "main"}}{{plot .}}{{end}}`)}}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sentence string
		plot     ui.Plot
		want     []string
	}{
		{"nothing was measured", ui.Plot{Title: "CPU", Unit: "%"}, []string{"<b>–</b>", "CPU: now –, highest 0"}},
		{"one value", ui.Plot{Unit: "%", Values: []float64{7.25}}, []string{"7.25 %", "M600.0 9.4h0"}},
		{"thousands are apart, the scale is round", ui.Plot{Unit: "/s", Values: []float64{3425, 3424.8}}, []string{"<b>3,425 /s</b>", "<span>4,000 /s</span>", "<span>2,000 /s</span>"}},
		{"a gap breaks the line", ui.Plot{Values: []float64{1, math.NaN(), 1}, Step: time.Minute}, []string{"M0.0 0.0h0M600.0 0.0h0", "2 min ago"}},
		{"infinity does not break the drawing", ui.Plot{Values: []float64{1, math.Inf(1)}}, []string{"M0.0 0.0h0L600.0 0.0"}},
		{"bytes have binary scales", ui.Plot{Unit: "bytes", Values: []float64{100 << 20}, Limit: 128 << 20}, []string{"100 MiB", "<span>128 MiB</span>", "<span>64 MiB</span>", "plot-limit"}},
		{"a title is text", ui.Plot{Title: "<b>"}, []string{"<span>&lt;b&gt;</span>"}},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := u.Fragment(w, httptest.NewRequest("GET", "/", nil), "plot", "main", c.plot); err != nil {
				t.Fatal(err)
			}
			got := w.Body.String()
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q:\n%s", want, got)
				}
			}
		})
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m")
	f.Add("\x1b]8;;http://x\x1b\\link")
	f.Fuzz(func(t *testing.T, s string) {
		if got := ui.Plain(s); strings.Contains(got, "\x1b[0m") || strings.Contains(strings.TrimRight(got, "\r"), "\r") {
			t.Errorf("%q became %q", s, got)
		}
	})
}

// TestContrast computes the contrast (WCAG 2.2, success criteria 1.4.3 and 1.4.11) of every pair of
// colours that meet, in light and dark.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("static/ui.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]float64{}
	for _, m := range regexp.MustCompile(`--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\);`).FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]float64{luminance(t, m[2]), luminance(t, m[3])}
	}
	check := func(front, back string, least float64) {
		f, okF := colours[front]
		b, okB := colours[back]
		if !okF || !okB {
			t.Fatalf("no colour %s or %s", front, back)
		}
		for i, theme := range []string{"light", "dark"} {
			ratio := (max(f[i], b[i]) + .05) / (min(f[i], b[i]) + .05)
			if ratio < least {
				t.Errorf("%s on %s has %.2f in %s, needs %.1f", front, back, ratio, theme, least)
			}
		}
	}
	for _, back := range []string{"bg", "surface", "sunken", "hover", "accent-tint"} {
		for _, front := range []string{"ink", "soft", "accent", "bad", "ok"} {
			check(front, back, 4.5)
		}
		check("line-strong", back, 3)
	}
	for _, back := range []string{"surface", "sunken", "add", "del"} {
		for _, front := range []string{"code-comment", "code-keyword", "code-string", "code-number", "code-name", "code-type"} {
			check(front, back, 4.5)
		}
	}
	for _, kind := range []string{"ok", "warn", "bad", "info", "accent"} {
		check(kind, kind+"-tint", 4.5)
		check(kind, "surface", 4.5)
		check("ink", kind+"-tint", 4.5)
	}
	for _, p := range [][2]string{{"accent-ink", "accent"}, {"bad-ink", "bad"}, {"ink", "add"}, {"ink", "del"}, {"ink", "add-no"}, {"ink", "del-no"}, {"soft", "add"}, {"soft", "del"}, {"info", "sunken"}, {"code-comment", "warn-tint"}, {"bad", "del"}, {"ok", "add"}} {
		check(p[0], p[1], 4.5)
	}
}

func luminance(t *testing.T, hex string) float64 {
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	channel := func(shift uint) float64 {
		c := float64(n>>shift&255) / 255
		if c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*channel(16) + .7152*channel(8) + .0722*channel(0)
}

// BenchmarkPage renders a repository's page in the layout.
func BenchmarkPage(b *testing.B) {
	s := newSite(b)
	r := httptest.NewRequest("GET", "/repo", nil)
	data := s.data(r)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.ui.Render(httptest.NewRecorder(), r, "demo-repo", data); err != nil {
			b.Fatal(err)
		}
	}
}
