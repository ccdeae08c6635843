package forge_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/forge"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

func TestMain(m *testing.M) {
	forge.Main()
	os.Exit(m.Run())
}

const password = "correct horse battery"

// A site is a forge with all that is below it, open on loopback.
type site struct {
	t        testing.TB
	dir      string
	forge    *forge.Forge
	identity *identity.Service
	events   *event.Bus
	db       *db.DB
	ui       *ui.UI
	url      string
	ssh      string // host:port
}

// serve starts a site. The first person is ann, an administrator; bob is another. before
// is called when the forge is open and does not run yet.
func serve(t testing.TB, before ...func(*site)) *site {
	t.Helper()
	return serveWith(t, forge.Limits{}, before...)
}

func serveWith(t testing.TB, limits forge.Limits, before ...func(*site)) *site {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	for _, program := range []string{"git", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	s := &site{t: t, dir: t.TempDir()}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	box, err := secret.Open(filepath.Join(s.dir, "secret.key"))
	s.must(err)
	s.db, err = db.Open(t.Context(), db.Config{URL: filepath.Join(s.dir, "sampan.db"), Log: log})
	s.must(err)
	s.identity, err = identity.Open(t.Context(), identity.Config{DB: s.db, Secret: box, Log: log})
	s.must(err)
	s.events, err = event.Open(t.Context(), event.Config{DB: s.db, Log: log})
	s.must(err)
	pages := ui.New(ui.Config{Log: log})
	s.ui = pages
	listener := httptest.NewUnstartedServer(nil)
	s.url = "http://" + listener.Listener.Addr().String()
	cfg := forge.Config{Dir: s.dir, SSHAddr: "127.0.0.1:0", HTTPURL: s.url, DB: s.db, Identity: s.identity, Events: s.events, UI: pages, Secret: box, Log: log, Limits: limits}
	s.forge, err = forge.Open(t.Context(), cfg)
	s.must(err)
	s.ssh = s.forge.SSHAddr().String()
	app := web.New(web.Config{Log: log, Error: pages.Error})
	app.Use(s.identity.Middleware(pages.Error))
	pages.Routes(app)
	s.forge.Routes(app)
	for _, fn := range before {
		fn(s)
	}
	listener.Config.Handler = app
	listener.Start()
	ctx, cancel := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.events.Run(ctx) })
	g.Go(func() error { return s.forge.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		s.forge.Close()
		listener.CloseClientConnections()
		listener.Close()
		s.events.Close()
		s.db.Close()
	})
	code, err := s.identity.SetupCode(t.Context())
	s.must(err)
	_, err = s.identity.Setup(t.Context(), code, identity.NewPerson{Name: "ann", Password: password})
	s.must(err)
	_, err = s.identity.Create(t.Context(), s.who("ann"), identity.NewPerson{Name: "bob", Password: password})
	s.must(err)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) who(name string) identity.Who {
	s.t.Helper()
	if name == "" {
		return identity.Who{}
	}
	p, err := s.identity.Person(s.t.Context(), identity.System(), name)
	s.must(err)
	who, err := s.identity.WhoByID(s.t.Context(), p.ID)
	s.must(err)
	return who
}

func (s *site) create(owner, name string, v identity.Visibility) forge.Repo {
	s.t.Helper()
	r, err := s.forge.CreateRepo(s.t.Context(), s.who(owner), forge.NewRepo{Name: name, Visibility: v})
	s.must(err)
	return r
}

// A person is somebody's machine: a home with an SSH key, a git and its configuration.
type person struct {
	s    *site
	home string
}

// person makes a machine. With a name its key is that person's; without, nobody knows it.
func (s *site) person(name string) *person {
	s.t.Helper()
	p := &person{s, s.t.TempDir()}
	key := filepath.Join(p.home, "key")
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	if name != "" {
		text, err := os.ReadFile(key + ".pub")
		s.must(err)
		_, err = s.identity.AddKey(s.t.Context(), s.who(name), "test "+p.home, string(text))
		s.must(err)
	}
	return p
}

func (p *person) sshCommand() string {
	_, port, _ := net.SplitHostPort(p.s.ssh)
	return "ssh -F /dev/null -i " + p.home + "/key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p " + port
}

func (p *person) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+p.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_SSH_COMMAND="+p.sshCommand(), "LC_ALL=C", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org")
	return cmd
}

// git runs git and wants it to succeed; it answers what it wrote.
func (p *person) git(dir string, args ...string) string {
	p.s.t.Helper()
	out, err := p.command(dir, "git", args...).CombinedOutput()
	if err != nil {
		p.s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// fails runs git and wants it to fail.
func (p *person) fails(dir string, args ...string) string {
	p.s.t.Helper()
	out, err := p.command(dir, "git", args...).CombinedOutput()
	if err == nil {
		p.s.t.Fatalf("git %s succeeded\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// ssh runs a command over SSH and answers all that it wrote, and whether it succeeded.
func (p *person) ssh(args ...string) (string, bool) {
	words := strings.Fields(p.sshCommand())
	host, _, _ := net.SplitHostPort(p.s.ssh)
	out, err := p.command(p.home, words[0], append(append(words[1:], "git@"+host), args...)...).CombinedOutput()
	return string(out), err == nil
}

func (p *person) sshURL(path string) string { return "ssh://git@" + p.s.ssh + "/" + path }

func (p *person) httpURL(user, path string) string {
	if user == "" {
		return p.s.url + "/" + path
	}
	return strings.Replace(p.s.url, "http://", "http://"+user+":"+strings.ReplaceAll(password, " ", "%20")+"@", 1) + "/" + path
}

// work makes a work tree with one commit.
func (p *person) work() string {
	dir := p.s.t.TempDir()
	p.git(dir, "init", "-q", "-b", "main")
	p.commit(dir, "README.md", "# hello\n")
	return dir
}

func (p *person) commit(dir, name, text string) string {
	p.s.t.Helper()
	file := filepath.Join(dir, name)
	os.MkdirAll(filepath.Dir(file), 0o755)
	p.s.must(os.WriteFile(file, []byte(text), 0o644))
	p.git(dir, "add", "-A")
	p.git(dir, "commit", "-qm", "change "+name)
	return p.git(dir, "rev-parse", "HEAD")
}

// get asks for a page with a cookie or without.
func (s *site) get(path, cookie string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	s.must(err)
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	return s.do(req)
}

func (s *site) do(req *http.Request) (int, string) {
	s.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	s.must(err)
	defer resp.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, resp.Body)
	s.must(err)
	return resp.StatusCode, b.String()
}
