package apps_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/apps"
	"sampan.dev/sampan/build"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/kv"
	"sampan.dev/sampan/mesh"
	"sampan.dev/sampan/web"
)

// patience is for what hangs: nothing here waits for time to pass.
const patience = 60 * time.Second

// A world is one installation with the real parts, on loopback.
type world struct {
	t     testing.TB
	dir   string
	ports map[string]string
	code  string // of the first run
	ann   string // her token, once she has signed in

	*server
}

// A server is one life of the installation.
type server struct {
	apps     *apps.Apps
	mesh     *mesh.Mesh
	identity *identity.Service
	stop     func()
}

// A source is one repository in a directory, as the forge would have it.
type source struct{ dir string }

func (s source) Repo(_ context.Context, _ identity.Who, path string) (int64, string, error) {
	if path != "ann/hello" {
		return 0, "", fault.NotFound("there is no repository %s", path)
	}
	return 1, path, nil
}

func (s source) May(_ context.Context, who identity.Who, act identity.Action, repo int64) error {
	if repo != 1 || who.Name != "ann" && act != identity.View || who.Name == "eve" {
		return fault.NotFound("there is no repository %d", repo)
	}
	return nil
}

func (s source) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (s source) Resolve(ctx context.Context, _ int64, rev string) (string, error) {
	return s.git(ctx, "rev-parse", rev)
}

func (s source) Checkout(ctx context.Context, _ int64, commit, dir string) (time.Time, error) {
	_, err := s.git(ctx, "--work-tree="+dir, "checkout", "-f", commit, "--", ".")
	return time.Unix(1_700_000_000, 0), err
}

func (s source) Init(dir string) error { return exec.Command("git", "init", "-q", "--bare", dir).Run() }

// end ends what outlives a server: apps are meant to.
func (w *world) end() {
	ctx := context.Background()
	runner, leave, err := apps.OpenProcesses(ctx, filepath.Join(w.dir, "run"), slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Error(err)
		return
	}
	left, err := runner.Instances(ctx)
	for _, in := range left {
		err = errors.Join(err, runner.Remove(ctx, in.ID))
	}
	if err := errors.Join(err, leave()); err != nil {
		w.t.Error(err)
	}
}

// newWorld opens an installation on host processes. Its directory may be entered by the user
// nobody, as which they run when the test is root's.
func newWorld(t testing.TB) *world {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("needs node (Debian package nodejs)")
	}
	dir, err := os.MkdirTemp("", "sampan-apps-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, ports: map[string]string{}}
	for _, name := range []string{"client", "peer", "http"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.ports[name] = l.Addr().String()
		l.Close()
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main", dir + "/repo"}, {"-C", dir + "/repo", "config", "user.email", "ann@example.org"}, {"-C", dir + "/repo", "config", "user.name", "ann"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	w.start()
	t.Cleanup(func() {
		for _, a := range w.list("/v2/apps/") {
			w.api("DELETE", "/v2/apps/"+a["id"].(string)+"/", nil, nil)
		}
		w.stop()
		w.end()
		os.RemoveAll(dir)
	})
	w.code, err = w.identity.SetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// start opens and runs everything on what is in the directory.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(logTo{w.t}, nil))
	must := func(err error) {
		if err != nil {
			w.t.Helper()
			w.t.Fatal(err)
		}
	}
	rows, err := db.Open(ctx, db.Config{URL: filepath.Join(w.dir, "sampan.db")})
	must(err)
	box, err := secret.Open(filepath.Join(w.dir, "secret.key"))
	must(err)
	people, err := identity.Open(ctx, identity.Config{DB: rows, Secret: box})
	must(err)
	store, err := kv.Open(ctx, kv.Config{Dir: filepath.Join(w.dir, "kv"), ClientURL: "http://" + w.ports["client"], PeerURL: "http://" + w.ports["peer"]})
	must(err)
	door, err := mesh.Open(ctx, mesh.Config{Addr: w.ports["http"], Domain: "localhost"})
	must(err)
	builder, err := build.Open(ctx, build.Config{Dir: filepath.Join(w.dir, "build")})
	must(err)
	runner, closeRunner, err := apps.OpenProcesses(ctx, filepath.Join(w.dir, "run"), log)
	must(err)
	a, err := apps.Open(ctx, apps.Config{
		Dir: filepath.Join(w.dir, "apps"), Domain: "localhost", SSHURL: "ssh://git@localhost:2222", Version: "1.2.3", DB: rows, Identity: people,
		UI: ui.New(ui.Config{}), KV: store.Client(), Mesh: door, Builder: builder, Runner: runner, Secret: box,
		Source: source{filepath.Join(w.dir, "repo")}, Log: log,
	})
	must(err)
	site := web.New(web.Config{})
	site.Use(people.Middleware(func(rw http.ResponseWriter, r *http.Request, err error) {
		http.Error(rw, err.Error(), http.StatusUnauthorized)
	}))
	a.Routes(site)
	site.Handle("POST /push/{sha}", func(rw http.ResponseWriter, r *http.Request) error {
		sha := r.PathValue("sha")
		p := apps.Push{ID: sha[:12], Repo: 1, Pusher: "ann", Updates: []apps.Update{{Ref: "refs/heads/main", New: sha}}}
		return a.Follow(r.Context(), p, rw)
	})
	door.Main(site)
	door.Host("deis.localhost", a.API())
	done := make(chan struct{}, 2)
	for _, run := range []func(context.Context) error{a.Run, door.Run} {
		go func() {
			if err := run(ctx); err != nil {
				w.t.Errorf("run: %v", err)
			}
			done <- struct{}{}
		}()
	}
	w.server = &server{apps: a, mesh: door, identity: people, stop: func() {
		cancel()
		<-done
		<-done
		for _, c := range []func() error{a.Close, closeRunner, builder.Close, door.Close, store.Close, people.Close, rows.Close} {
			if err := c(); err != nil {
				w.t.Errorf("close: %v", err)
			}
		}
	}}
	select {
	case <-a.Ready():
	case <-time.After(patience):
		w.t.Fatal("apps are not ready")
	}
}

type logTo struct{ t testing.TB }

func (l logTo) Write(p []byte) (int, error) {
	if _, child := l.t.(childTB); child || testing.Verbose() {
		os.Stderr.Write(p)
	}
	return len(p), nil
}

// do sends one request to a host at the front door.
func (w *world) do(host, method, path, token string, in any) (int, http.Header, string) {
	w.t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			w.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.ports["http"]+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Host = host
	if token != "" {
		req.Header.Set("Authorization", "token "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// token signs ann in, who is made the first time.
func (w *world) token() string {
	w.t.Helper()
	if w.ann != "" {
		return w.ann
	}
	ann := map[string]string{"username": "ann", "password": "correct horse", "email": "ann@example.org"}
	if w.code != "" {
		ann["setup"] = w.code
		if status, _, body := w.do("deis.localhost", "POST", "/v2/auth/register/", "", ann); status != http.StatusCreated {
			w.t.Fatalf("register: %d %s", status, body)
		}
		w.code = ""
	}
	var out struct{ Token string }
	status, _, body := w.do("deis.localhost", "POST", "/v2/auth/login/", "", ann)
	if status != http.StatusOK || json.Unmarshal([]byte(body), &out) != nil {
		w.t.Fatalf("login: %d %s", status, body)
	}
	w.ann = out.Token
	return w.ann
}

// api calls the controller API as ann and reads the answer into out.
func (w *world) api(method, path string, in, out any) int {
	w.t.Helper()
	status, _, body := w.do("deis.localhost", method, path, w.token(), in)
	if out != nil {
		if err := json.Unmarshal([]byte(body), out); err != nil {
			w.t.Fatalf("%s %s: %d %s", method, path, status, body)
		}
	}
	return status
}

func (w *world) want(status int, method, path string, in, out any) {
	w.t.Helper()
	got, _, body := w.do("deis.localhost", method, path, w.token(), in)
	if got != status {
		w.t.Fatalf("%s %s: %d %s; want %d", method, path, got, body, status)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(body), out); err != nil {
			w.t.Fatalf("%s %s: %s: %v", method, path, body, err)
		}
	}
}

func (w *world) list(path string) []map[string]any {
	w.t.Helper()
	var page struct{ Results []map[string]any }
	w.want(http.StatusOK, "GET", path, nil, &page)
	return page.Results
}

// commit writes files to the repository and returns the commit's name.
func (w *world) commit(files map[string]string) string {
	w.t.Helper()
	s := source{filepath.Join(w.dir, "repo")}
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "--allow-empty", "-m", "change"}} {
		if _, err := s.git(context.Background(), args...); err != nil {
			w.t.Fatal(err)
		}
	}
	sha, err := s.git(context.Background(), "rev-parse", "HEAD")
	if err != nil {
		w.t.Fatal(err)
	}
	return sha
}

// push tells of a push as the forge does, and returns what the client sees.
func (w *world) push(sha string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	p := apps.Push{ID: sha[:12], Repo: 1, Pusher: "ann", Updates: []apps.Update{{Ref: "refs/heads/main", New: sha}}}
	if err := w.apps.Follow(ctx, p, &out); err != nil {
		w.t.Fatalf("follow: %v\n%s", err, out.String())
	}
	w.t.Logf("push %.7s:\n%s", sha, out.String())
	return out.String()
}

// get asks the app at its host.
func (w *world) get(host string) (int, string) {
	w.t.Helper()
	status, _, body := w.do(host, "GET", "/", "", nil)
	return status, body
}

// app is a web app of a few lines, in what builds quickest; body is what it answers.
func app(body string) map[string]string {
	return program(`
const server = require("http").createServer((req, res) => {
	console.log("asked");
	res.end("` + body + `" + (process.env.SUFFIX || ""));
});
server.listen(process.env.PORT, () => console.log("listening"));
process.on("SIGTERM", () => server.close());
`)
}

// program is an app that is one script.
func program(script string) map[string]string {
	return map[string]string{"package.json": `{"name": "hello", "scripts": {"start": "node server.js"}}`, "server.js": script}
}

func TestFromAPushToARunningApp(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "hello"}, nil)
	if status, body := w.get("hello.localhost"); status != http.StatusServiceUnavailable || !strings.Contains(body, "nothing has been deployed") {
		t.Errorf("a new app answers %d %q", status, body)
	}
	w.want(http.StatusOK, "POST", "/v2/apps/hello/source/", map[string]string{"repository": "ann/hello"}, nil)

	out := w.push(w.commit(app("one")))
	for _, text := range []string{"-----> Building hello from ", "(main)", "NO ISOLATION", "-----> Release v2", "web.1 started, ready in ", "http://hello.localhost:"} {
		if !strings.Contains(out, text) {
			t.Errorf("the push's output lacks %q", text)
		}
	}
	if status, body := w.get("hello.localhost"); status != http.StatusOK || body != "one" {
		t.Fatalf("after the push the app answers %d %q", status, body)
	}

	w.want(http.StatusCreated, "POST", "/v2/apps/hello/config/", map[string]any{"values": map[string]any{"SUFFIX": "!"}}, nil)
	if _, body := w.get("hello.localhost"); body != "one!" {
		t.Errorf("after the change of configuration it answers %q", body)
	}
	w.push(w.commit(app("two")))
	if _, body := w.get("hello.localhost"); body != "two!" {
		t.Errorf("after the second push it answers %q", body)
	}

	began := time.Now()
	var made struct{ Version int }
	w.want(http.StatusCreated, "POST", "/v2/apps/hello/releases/rollback/", map[string]int{"version": 2}, &made)
	if _, body := w.get("hello.localhost"); body != "one" || made.Version != 5 {
		t.Errorf("after the rollback to v2, as v%d, it answers %q", made.Version, body)
	}
	t.Logf("rollback to traffic: %s", time.Since(began).Round(time.Millisecond))

	w.want(http.StatusNoContent, "POST", "/v2/apps/hello/scale/", map[string]int{"web": 3}, nil)
	if pods := w.list("/v2/apps/hello/pods/"); len(pods) != 3 {
		t.Errorf("after scaling to 3 there are %v", pods)
	}
	_, _, log := w.do("deis.localhost", "GET", "/v2/apps/hello/logs?log_lines=500", w.token(), nil)
	for _, text := range []string{" deis[controller]: INFO ann created initial release\n", " hello[web.1]: asked\n", "ann rolled back to v2"} {
		if !strings.Contains(log, text) {
			t.Errorf("the log lacks %q:\n%s", text, log)
		}
	}
}

func TestAReleaseThatDoesNotBecomeReadyNeverServes(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "hello"}, nil)
	w.want(http.StatusOK, "POST", "/v2/apps/hello/source/", map[string]string{"repository": "ann/hello"}, nil)
	w.push(w.commit(app("good")))

	for _, c := range []struct {
		name  string
		files map[string]string
		says  []string
	}{
		{"one that cannot be built", map[string]string{"package.json": "{"}, []string{"package.json"}},
		{"one that exits at once", program(`console.log("no database"); process.exit(7)`), []string{"web.1 exited with status 7 before it was ready", "| no database"}},
		{"one that listens elsewhere", program(`require("http").createServer().listen(47113, "127.0.0.1")`), []string{"web.1 listens on port 47113, but PORT is "}},
		{"one that does not listen", program(`console.log("thinking"); setTimeout(() => {}, 3600000)`), []string{"web.1 does not listen on port ", "| thinking"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "one that does not listen" {
				w.want(http.StatusCreated, "POST", "/v2/apps/hello/config/", map[string]any{"values": map[string]any{"DEIS_DEPLOY_TIMEOUT": "2"}}, nil)
			}
			out := w.push(w.commit(c.files))
			for _, text := range append(c.says, "still serves what it served before") {
				if !strings.Contains(out, text) {
					t.Errorf("the push's output lacks %q", text)
				}
			}
			if status, body := w.get("hello.localhost"); status != http.StatusOK || body != "good" {
				t.Errorf("meanwhile the app answers %d %q", status, body)
			}
		})
	}
}

// What old releases ran does not fill the disk, and can be gone back to all the same.
func TestOldReleasesAreFreed(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "hello"}, nil)
	w.want(http.StatusOK, "POST", "/v2/apps/hello/source/", map[string]string{"repository": "ann/hello"}, nil)
	for n := range 12 {
		w.push(w.commit(app(fmt.Sprint("answer ", n))))
	}
	results := func() int {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(w.dir, "build", "apps", "*", "results", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := results(); n != 10 {
		t.Errorf("after 12 deploys there are the results of %d builds", n)
	}
	w.want(http.StatusCreated, "POST", "/v2/apps/hello/releases/rollback/", map[string]int{"version": 2}, nil)
	if status, body := w.get("hello.localhost"); status != http.StatusOK || body != "answer 0" {
		t.Errorf("after the rollback to v2 the app answers %d %q", status, body)
	}
	w.want(http.StatusNoContent, "DELETE", "/v2/apps/hello/", nil, nil)
	if n := results(); n != 0 {
		t.Errorf("the destroyed app leaves the results of %d builds", n)
	}
}

// An app can be destroyed while it is built.
func TestDestroyedInTheMiddleOfABuild(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "hello"}, nil)
	w.want(http.StatusOK, "POST", "/v2/apps/hello/source/", map[string]string{"repository": "ann/hello"}, nil)
	files := app("never")
	files["package.json"] = `{"name": "hello", "scripts": {"start": "node server.js", "build": "echo building && sleep 1000"}}`
	sha := w.commit(files)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		p := apps.Push{ID: sha[:12], Repo: 1, Pusher: "ann", Updates: []apps.Update{{Ref: "refs/heads/main", New: sha}}}
		ended <- w.apps.Follow(context.Background(), p, in)
		in.Close()
	}()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if strings.TrimSpace(lines.Text()) == "building" {
			w.want(http.StatusNoContent, "DELETE", "/v2/apps/hello/", nil, nil)
		}
	}
	if err := <-ended; err != nil || !strings.Contains(text.String(), "the app was destroyed meanwhile") {
		t.Errorf("the push ends with %v and says\n%s", err, &text)
	}
}

func TestAServerThatStartsAgainGoesOn(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "hello"}, nil)
	w.want(http.StatusOK, "POST", "/v2/apps/hello/source/", map[string]string{"repository": "ann/hello"}, nil)
	w.push(w.commit(app("still here")))
	before := w.list("/v2/apps/hello/pods/")
	w.stop()
	w.start()
	if status, body := w.get("hello.localhost"); status != http.StatusOK || body != "still here" {
		t.Errorf("after the restart the app answers %d %q", status, body)
	}
	if after := w.list("/v2/apps/hello/pods/"); len(after) != 1 || after[0]["name"] != before[0]["name"] {
		t.Errorf("after the restart %v runs, before it was %v", after, before)
	}
	w.push(w.commit(app("and new")))
	if _, body := w.get("hello.localhost"); body != "and new" {
		t.Errorf("after the next push the app answers %q", body)
	}
}
