package forge_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sampan.dev/sampan/internal/identity"
)

// cookie signs a person in and answers what the browser would send.
func (s *site) cookie(name string) string {
	s.t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(s.form("/-/sign-in", "", url.Values{"name": {name}, "password": {password}}))
	s.must(err)
	defer resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Value != "" && resp.StatusCode == http.StatusSeeOther {
			return c.Name + "=" + c.Value
		}
	}
	s.t.Fatalf("sign-in of %s: %s", name, resp.Status)
	return ""
}

func (s *site) form(path, cookie string, v url.Values) *http.Request {
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url+path, strings.NewReader(v.Encode()))
	s.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	return req
}

func TestPages(t *testing.T) {
	s := serve(t)
	s.must(s.ui.Check())
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	s.create("ann", "empty", identity.Internal)
	dir := ann.work()
	ann.commit(dir, "README.md", "# Hello <script>alert(1)</script>\n\n[code](cmd/main.go) ![pic](a.png)\n\n- [x] done\n")
	ann.commit(dir, "cmd/main.go", "package main\n\nfunc main() { println(\"<b>\") }\n")
	ann.commit(dir, "page.html", "<script>alert(1)</script>\n")
	ann.commit(dir, "bin", "a\x00b")
	ann.git(dir, "tag", "v1")
	head := ann.git(dir, "rev-parse", "HEAD")
	ann.git(dir, "push", "-q", ann.sshURL("ann/hello"), "main", "v1", "HEAD:feature/x")
	cookie := s.cookie("ann")
	cases := []struct {
		path   string
		status int
		says   string // in the page; "!…": not in it
	}{
		{"/", 200, "hello"},
		{"/ann", 200, "hello"},
		{"/nobody", 404, ""},
		{"/-/new", 200, "hello-go"},
		{"/ann/empty", 200, "git remote add origin"},
		{"/ann/hello", 200, "main.go"},
		{"/ann/hello", 200, "!<script>alert"},
		{"/ann/hello", 200, `href="/ann/hello/blob/main/cmd/main.go"`},
		{"/ann/hello", 200, `src="/ann/hello/raw/main/a.png"`},
		{"/ANN/Hello", 303, ""},
		{"/ann/hello/tree/main/cmd", 200, "main.go"},
		{"/ann/hello/tree/feature/x/cmd", 200, "main.go"},
		{"/ann/hello/tree/v1", 200, "cmd"},
		{"/ann/hello/tree/none", 404, "no branch"},
		{"/ann/hello/tree/main/none", 404, "no directory"},
		{"/ann/hello/tree/main/%2e%2e/x", 404, ""},
		{"/ann/hello/blob/main/cmd/main.go", 200, `<span class="kn">package</span>`},
		{"/ann/hello/blob/main/README.md", 200, "<h1"},
		{"/ann/hello/blob/main/README.md?source", 200, "&lt;script&gt;"},
		{"/ann/hello/blob/main/bin", 200, "not a text file"},
		{"/ann/hello/blob/main/none", 404, ""},
		{"/ann/hello/commits/main", 200, "change page.html"},
		{"/ann/hello/commits/main/cmd", 200, "!change page.html"},
		{"/ann/hello/commits/main?page=999999", 400, ""},
		{"/ann/hello/commit/" + head, 200, "change bin"},
		{"/ann/hello/commit/" + head[:8], 200, "bin"},
		{"/ann/hello/commit/ffffffffffff", 404, ""},
		{"/ann/hello/patch/" + head, 200, "Subject: [PATCH] change bin"},
		{"/ann/hello/branches", 200, "feature/x"},
		{"/ann/hello/settings", 200, "default"},
		{"/-/settings", 200, "ann"},
		{"/-/settings/keys", 200, "SHA256:"},
		{"/-/settings/tokens", 200, ""},
		{"/-/settings/password", 200, ""},
		{"/-/sign-in", 303, ""},
		{"/-/setup", 303, ""},
		{"/-/enter?code=x", 200, "<button"},
		{"/ann/none", 404, "no such repository"},
	}
	for _, c := range cases {
		status, text := s.get(c.path, cookie)
		says, not := strings.CutPrefix(c.says, "!")
		if status != c.status || c.says != "" && strings.Contains(text, says) == not {
			t.Errorf("GET %s: %d, want %d and %q in:\n%s", c.path, status, c.status, c.says, text)
		}
	}
}

func TestRawFilesNeverRun(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Public)
	dir := ann.work()
	ann.commit(dir, "page.html", "<script>alert(1)</script>\n")
	ann.commit(dir, "pic.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>\n")
	ann.commit(dir, "bin", "a\x00b")
	ann.git(dir, "push", "-q", ann.sshURL("ann/hello"), "main")
	for path, kind := range map[string]string{
		"page.html": "text/plain; charset=utf-8", "pic.svg": "image/svg+xml", "bin": "application/octet-stream",
	} {
		resp, err := http.Get(s.url + "/ann/hello/raw/main/" + path)
		s.must(err)
		resp.Body.Close()
		h := resp.Header
		if h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// A file that no parser gets through is shown as it stands.
func TestFilesThatCannotBeRendered(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Public)
	dir := ann.work()
	ann.commit(dir, "README.md", "# Title\n\n"+strings.Repeat("[a](", 120_000))
	ann.git(dir, "push", "-q", ann.sshURL("ann/hello"), "main")
	for path, says := range map[string]string{"": "# Title\n\n[a]([a](", "/blob/main/README.md": "[a]([a]("} {
		if status, text := s.get("/ann/hello"+path, ""); status != 200 || !strings.Contains(text, says) {
			t.Errorf("GET %q: %d, %.3000s", path, status, text)
		}
	}
}

func TestForms(t *testing.T) {
	s := serve(t)
	cookie := s.cookie("ann")
	post := func(path string, status int, v url.Values) string {
		t.Helper()
		got, text := s.do(s.form(path, cookie, v))
		if got != status {
			t.Fatalf("POST %s %v: %d, want %d\n%s", path, v, got, status, text)
		}
		return text
	}
	post("/-/new", 422, url.Values{"name": {"../x"}})
	post("/-/new", 303, url.Values{"name": {"hello"}, "visibility": {"0"}})
	if text := post("/-/new", 422, url.Values{"name": {"Hello"}}); !strings.Contains(text, "already") {
		t.Error("a name that differs in case is another")
	}
	post("/ann/hello/settings", 303, url.Values{"name": {"renamed"}, "description": {"d"}, "visibility": {"2"}, "default": {"main"}})
	post("/ann/renamed/settings", 422, url.Values{"name": {"renamed"}, "default": {"a..b"}, "visibility": {"2"}})
	post("/ann/renamed/settings/people", 303, url.Values{"person": {"bob"}, "role": {"writer"}})
	post("/ann/renamed/settings/people", 422, url.Values{"person": {"nobody"}, "role": {"writer"}})
	if _, text := s.get("/ann/renamed/settings", cookie); !strings.Contains(text, "bob") {
		t.Error("bob is not in the list of people")
	}
	post("/ann/renamed/settings/delete", 400, url.Values{"confirm": {"wrong"}})
	post("/ann/renamed/settings/delete", 303, url.Values{"confirm": {"ann/renamed"}})
	if status, _ := s.get("/ann/renamed", cookie); status != 404 {
		t.Error("it is still there")
	}
	post("/-/settings", 303, url.Values{"full-name": {"Ann A."}, "email": {"ann@example.org"}, "lang": {"zh"}})
	post("/-/settings/keys", 422, url.Values{"key": {"nonsense"}})
	if text := post("/-/settings/tokens", 200, url.Values{"name": {"ci"}, "right": {"repo:read"}}); !strings.Contains(text, "repo:read") {
		t.Error("the token is not listed")
	}
	post("/-/settings/password", 422, url.Values{"old": {"wrong"}, "new": {"another good password"}})
	post("/-/settings/password", 303, url.Values{"old": {password}, "new": {"another good password"}})
	code, err := s.identity.SignInCode(t.Context(), s.who("ann"))
	s.must(err)
	post("/-/enter", 303, url.Values{"code": {code}})
	post("/-/enter", 401, url.Values{"code": {code}})
	post("/-/sign-out", 303, nil)
	cookie = ""
	post("/-/sign-in", 401, url.Values{"name": {"ann"}, "password": {password}})
	post("/-/new", 401, url.Values{"name": {"x"}})
	post("/-/setup", 422, url.Values{"code": {"x"}, "name": {"eve"}, "password": {password}})
}
