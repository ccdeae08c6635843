package mesh_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/mesh"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("MESH_TEST_ROLE"); role != "" {
		play(role)
		return
	}
	os.Exit(m.Run())
}

// open runs a front door until the test ends.
func open(t testing.TB, cfg mesh.Config) *mesh.Mesh {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	m, err := mesh.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// backend serves h and gives its address.
func backend(t testing.TB, h http.HandlerFunc) mesh.Backend {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return mesh.Backend{ID: s.URL, Addr: s.Listener.Addr().String()}
}

// app puts a route app.localhost to one backend that is h.
func app(t testing.TB, m *mesh.Mesh, h http.HandlerFunc) {
	t.Helper()
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{backend(t, h)}})
}

// request makes one for host through the front door.
func request(t testing.TB, m *mesh.Mesh, method, host, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+m.Addr().String()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	return r
}

// do sends a request without following redirects and reads the whole answer.
func do(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func get(t testing.TB, m *mesh.Mesh, host, path string) (*http.Response, string) {
	t.Helper()
	return do(t, request(t, m, http.MethodGet, host, path, nil))
}

func say(what string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, what) }
}

func TestHostsLeadToTheirHandlers(t *testing.T) {
	type want struct{ about, host, says string }
	table := func(t *testing.T, domain string, wants []want) {
		m := open(t, mesh.Config{Domain: domain})
		m.Main(say("main"))
		m.Host("deis."+or(domain, "localhost"), say("deis"))
		m.Put(mesh.Route{
			Name:     "blog",
			Hosts:    []string{"blog." + or(domain, "localhost"), "Blog.Example.Com", "*.wild.example.com"},
			Backends: []mesh.Backend{backend(t, say("blog"))},
		})
		for _, w := range wants {
			if resp, got := get(t, m, w.host, "/"); got != w.says && (w.says != "404" || resp.StatusCode != 404) {
				t.Errorf("%s: %q gives %d %q, want %q", w.about, w.host, resp.StatusCode, got, w.says)
			}
		}
	}
	t.Run("without a domain", func(t *testing.T) {
		table(t, "", []want{
			{"the default domain is the main host", "localhost", "main"},
			{"a port does not matter", "localhost:3000", "main"},
			{"an address is the main host", "127.0.0.1:3000", "main"},
			{"so is an IPv6 address", "[::1]:3000", "main"},
			{"so is any name of the machine", "build.lan:3000", "main"},
			{"an app has its own host", "blog.localhost", "blog"},
			{"with a port too", "blog.localhost:3000", "blog"},
			{"in any case, with a final dot", "BLOG.localhost.", "blog"},
			{"an app's own domain", "blog.example.com", "blog"},
			{"a wildcard", "a.b.wild.example.com:80", "blog"},
			{"not the wildcard's parent", "wild.example.com", "main"},
			{"a host of ours below the domain", "deis.localhost:3000", "deis"},
			{"an app that does not exist", "nobody.localhost:3000", "404"},
		})
	})
	t.Run("with a domain", func(t *testing.T) {
		table(t, "team.example", []want{
			{"the domain is the main host", "team.example", "main"},
			{"an app below it", "blog.team.example", "blog"},
			{"an app that does not exist", "nobody.team.example", "404"},
			{"a name that only leads here", "rebind.example.net", "404"},
			{"a name of the own network", "server", "main"},
			{"an address", "192.0.2.7", "main"},
		})
	})
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy, free := taken.Addr().String(), "127.0.0.1:0"
	for _, c := range []struct {
		about, field string
		config       mesh.Config
	}{
		{"the HTTP port is taken", "http", mesh.Config{Addr: busy}},
		{"the TLS port is taken", "https", mesh.Config{Addr: free, TLSAddr: busy, CertFile: "x", KeyFile: "x"}},
		{"an address is nonsense", "http", mesh.Config{Addr: "nowhere"}},
		{"TLS without a certificate", "https", mesh.Config{Addr: free, TLSAddr: free}},
		{"a certificate that is not there", "tls.cert", mesh.Config{Addr: free, TLSAddr: free, CertFile: "none.pem", KeyFile: "none.pem"}},
		{"ACME for localhost", "domain", mesh.Config{Addr: free, TLSAddr: free, ACME: &mesh.ACME{Email: "ann@example.com"}}},
		{"a trusted proxy that is no range", "trusted", mesh.Config{Addr: free, Trusted: []string{"proxy"}}},
	} {
		m, err := mesh.Open(t.Context(), c.config)
		if err == nil {
			m.Close()
			t.Errorf("%s: opened", c.about)
			continue
		}
		if f, ok := fault.Of(err); !ok || f.Field != c.field || f.Hint == "" {
			t.Errorf("%s: %v", c.about, err)
		}
		t.Log(err)
	}
}

func TestURLIsWhatABrowserNeeds(t *testing.T) {
	m := open(t, mesh.Config{})
	_, port, _ := net.SplitHostPort(m.Addr().String())
	if got, want := m.URL("blog.localhost"), "http://blog.localhost:"+port; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestProblemsExplainThemselves(t *testing.T) {
	m := open(t, mesh.Config{})
	m.Put(mesh.Route{Name: "sleepy", Hosts: []string{"sleepy.localhost"}, Why: "It is scaled to zero & <quiet>."})
	gone := httptest.NewServer(nil)
	gone.Close()
	m.Put(mesh.Route{Name: "broken", Hosts: []string{"broken.localhost"}, Backends: []mesh.Backend{{ID: "1", Addr: gone.Listener.Addr().String()}}})
	page, data := "text/html,*/*;q=0.8", "application/json"
	for _, c := range []struct {
		about, host, accept, lang string
		status                    int
		says                      []string
	}{
		{"an unknown host, to a program", "x.localhost", "*/*", "", 404, []string{"No app answers at x.localhost\n", "sampan apps"}},
		{"an unknown host, in Chinese", "x.localhost", page, "zh-CN,zh;q=0.9,en;q=0.8", 404, []string{`lang="zh"`, "没有应用使用 x.localhost"}},
		{"English preferred to Chinese", "x.localhost", page, "en-GB,zh;q=0.5", 404, []string{`lang="en"`}},
		{"no instance, and why", "sleepy.localhost", page, "", 503, []string{"sleepy is not running", "scaled to zero &amp; &lt;quiet&gt;"}},
		{"no instance, as JSON", "sleepy.localhost", data, "", 503, []string{`"detail":"It is scaled to zero`}},
		{"a backend that refuses", "broken.localhost", page, "", 502, []string{"broken did not answer", "sampan logs"}},
		{"a main host that is not ready", "localhost", "", "", 503, []string{"starting"}},
	} {
		r := request(t, m, http.MethodGet, c.host, "/", nil)
		r.Header.Set("Accept", c.accept)
		r.Header.Set("Accept-Language", c.lang)
		resp, body := do(t, r)
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.about, resp.StatusCode, c.status)
		}
		for _, s := range append(c.says, resp.Header.Get("X-Request-Id")) {
			if s == "" || !strings.Contains(body, s) {
				t.Errorf("%s: %q is not in\n%s", c.about, s, body)
			}
		}
	}
}
