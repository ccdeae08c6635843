package test_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A machine is what one test has: a data directory, ports, a server that may run, people.
type machine struct {
	dir                       string // for everything, the data directory included
	data, http, ssh, kv, peer string
	flags                     []string // further ones of serve
	server                    *exec.Cmd
	ended                     chan struct{}
	setup                     string // the code of the first-run link, until used
	first                     string // the first person's name
}

// newMachine chooses the ports of a machine that lives in dir. Its server begins with what
// earlier ones kept for all builds: the compiled standard library and base images.
func newMachine(dir string) (*machine, error) {
	m, err := coldMachine(dir)
	if err != nil {
		return nil, err
	}
	return m, warm(m, standard)
}

func coldMachine(dir string) (*machine, error) {
	m := &machine{dir: dir, data: filepath.Join(dir, "data")}
	for _, address := range []*string{&m.http, &m.ssh, &m.kv, &m.peer} {
		l, err := freePort()
		if err != nil {
			return nil, err
		}
		defer l.Close()
		*address = l.Addr().String()
	}
	return m, nil
}

// freePort listens on one that the kernel gives to nobody who asks for any: containers of other
// stories do, before the server of this one has begun.
func freePort() (l net.Listener, err error) {
	const first, many = 12_000, 20_000 // below /proc/sys/net/ipv4/ip_local_port_range
	for range 100 {
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(many))); err == nil {
			return l, nil
		}
	}
	return nil, err
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func (m *machine) url() string { return "http://localhost:" + port(m.http) }
func (m *machine) sshURL(path string) string {
	return "ssh://git@127.0.0.1:" + port(m.ssh) + "/" + path + ".git"
}
func (m *machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.dir}, parts...)...)
}
func (m *machine) credentials(who string) string { return m.path("credentials-" + who + ".json") }

// args is the command line of the server.
func (m *machine) args(more ...string) []string {
	args := []string{"serve", "--data", m.data, "--http", m.http, "--ssh", m.ssh, "--kv-client", m.kv, "--kv-peer", m.peer}
	return append(append(args, m.flags...), more...)
}

var setupLink = regexp.MustCompile(`/-/setup\?code=(\S+)`)

// start runs the server and returns when it has greeted.
func (m *machine) start(env []string, more ...string) error {
	if m.server != nil {
		return errors.New("the server runs already")
	}
	log, err := os.OpenFile(m.path("server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	hello, err := os.Create(m.path("greeting"))
	if err != nil {
		return err
	}
	defer hello.Close()
	cmd := exec.Command(program, m.args(more...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, hello, log
	if err := cmd.Start(); err != nil {
		return err
	}
	m.server, m.ended = cmd, make(chan struct{})
	go func() { cmd.Wait(); close(m.ended) }()
	return m.greeted()
}

// greeted waits for the end of the greeting, which the server prints when it serves.
func (m *machine) greeted() error {
	deadline := time.After(2 * time.Minute)
	for {
		text, err := os.ReadFile(m.path("greeting"))
		if err != nil {
			return err
		}
		if bytes.HasSuffix(text, []byte("\n\n")) {
			if code := setupLink.FindSubmatch(text); code != nil {
				m.setup = string(code[1])
			}
			return nil
		}
		select {
		case <-m.ended:
			log, _ := os.ReadFile(m.path("server.log"))
			m.server = nil
			return fmt.Errorf("the server ended at its start:\n%s", log)
		case <-deadline:
			return errors.New("the server did not greet within two minutes")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// signal ends the server and waits for its end.
func (m *machine) signal(sig syscall.Signal) error {
	if m.server == nil {
		return errors.New("no server runs")
	}
	if err := m.server.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case <-m.ended:
		m.server = nil
		return nil
	case <-time.After(time.Minute):
		return errors.New("the server did not end within a minute")
	}
}

// end stops the server and everything that it left running; races that it saw are an error.
func (m *machine) end() error {
	if m.server != nil {
		if err := m.signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	if _, err := os.Stat(m.path("server.log")); err != nil {
		return nil // none was ever started
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, program, "stop", "--data", m.data).CombinedOutput(); err != nil {
		return fmt.Errorf("sampan stop: %w\n%s", err, out)
	}
	return m.raced()
}

// raced is an error with what the race detector found in the server.
func (m *machine) raced() error {
	log, err := os.ReadFile(m.path("server.log"))
	if err != nil {
		return err
	}
	if _, races, found := bytes.Cut(log, []byte("WARNING: DATA RACE")); found {
		return fmt.Errorf("a data race in the server:%s", races)
	}
	return nil
}

// environ is the environment of a person's programs.
func (m *machine) environ(who string) []string {
	return append(os.Environ(),
		"HOME="+m.dir,
		"SAMPAN_CONFIG="+m.credentials(who),
		"GIT_SSH_COMMAND="+m.sshCommand(who),
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
}

func (m *machine) sshCommand(who string) string {
	return "ssh -i " + m.path("key-"+who) + " -o IdentitiesOnly=yes -o IdentityAgent=none -o LogLevel=ERROR" +
		" -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=" + m.path("known_hosts")
}

// run runs a program as a person in a directory and returns all that it printed.
func (m *machine) run(who, dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, m.environ(who)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// sampan runs the client as a person.
func (m *machine) sampan(who string, args ...string) (string, error) {
	return m.run(who, m.dir, program, args...)
}

func password(who string) string { return "correct horse " + who }

// login signs a person in: the first by the set-up code, others are made by the first.
func (m *machine) login(who string) error {
	key := m.path("key-" + who)
	if _, err := os.Stat(key); err != nil {
		if _, err := m.run(who, m.dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who+"@test", "-f", key); err != nil {
			return err
		}
	}
	args := []string{"login", m.url(), "--name", who, "--password-stdin", "--key", key + ".pub"}
	if m.setup != "" {
		args = append(args, "--setup", m.setup)
		m.setup, m.first = "", who
	} else if err := m.register(who); err != nil {
		return err
	}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdin = m.environ(who), strings.NewReader(password(who)+"\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("login %s: %w\n%s", who, err, out)
	}
	return nil
}

// register has the first person, who may do that, make another.
func (m *machine) register(who string) error {
	token, err := m.token(m.first)
	if err != nil {
		return err
	}
	body := fmt.Sprintf(`{"username":%q,"password":%q,"email":"%s@example.com"}`, who, password(who), who)
	req, err := http.NewRequest("POST", m.url()+"/v2/auth/register/", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Host = "deis.localhost"
	req.Header.Set("Authorization", "token "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("register %s: %s", who, resp.Status)
	}
	return nil
}

var tokenPattern = regexp.MustCompile(`"token": "([^"]+)"`)

// token is what a person's client signs in with.
func (m *machine) token(who string) (string, error) {
	text, err := os.ReadFile(m.credentials(who))
	if err != nil {
		return "", err
	}
	found := tokenPattern.FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s is not signed in", who)
	}
	return string(found[1]), nil
}

// example makes a git repository of one of examples/.
func (m *machine) example(name, dir string) error {
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", name))); err != nil {
		return err
	}
	for _, git := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "first"}} {
		if _, err := m.run("nobody", dir, "git", git...); err != nil {
			return err
		}
	}
	return nil
}

// get fetches a page of an app.
func (m *machine) get(app, path string) (status int, body string, err error) {
	req, err := http.NewRequest("GET", "http://"+m.http+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = app + ".localhost:" + port(m.http)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String(), err
}

// kept is where the tests keep what servers made for all builds, in a directory that git ignores.
func kept(name string) string { return filepath.Join("..", ".cache", "test", name) }

// fill makes what is kept, once: a server of its own builds apps and is thrown away.
var fill = sync.OnceValue(func() error {
	if _, err := os.Stat(kept(store)); err == nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "sampan-warm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := coldMachine(dir)
	if err != nil {
		return err
	}
	if err := m.start(os.Environ()); err != nil {
		return err
	}
	if err = m.login("ann"); err == nil {
		err = m.pushAll("hello-go", "hello-node", "dockerfile")
	}
	if err := errors.Join(err, m.end()); err != nil {
		return err
	}
	for _, what := range []string{standard, node, store} {
		os.RemoveAll(kept(what))
		if err := link(m.path("data", what), kept(what)); err != nil {
			return err
		}
	}
	return nil
})

// What is kept, by its place in the data directory.
const (
	standard = "build/shared/go"   // the compiled standard library
	node     = "build/shared/node" // Node and npm
	store    = "engine/store"      // base images
)

// pushAll makes an app of each example, and destroys it.
func (m *machine) pushAll(examples ...string) error {
	for _, name := range examples {
		if _, err := m.sampan("ann", "apps", "create", name, "--no-remote"); err != nil {
			return err
		}
		if err := m.example(name, m.path(name)); err != nil {
			return err
		}
		if _, err := m.run("ann", m.path(name), "git", "push", m.sshURL(name), "main"); err != nil {
			return err
		}
		if _, err := m.sampan("ann", "apps", "destroy", "-a", name, "--confirm", name); err != nil {
			return err
		}
	}
	return nil
}

// warm gives a machine what is kept.
func warm(m *machine, kinds ...string) error {
	if err := fill(); err != nil {
		return fmt.Errorf("make what all builds share: %w", err)
	}
	for _, what := range kinds {
		if err := link(kept(what), m.path("data", what)); err != nil {
			return err
		}
	}
	return nil
}

// link copies a tree by hard links where it can: but for databases, the files are never
// written again.
func link(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o711); err != nil {
		return err
	}
	part := to + ".part"
	const script = `cp -al "$1" "$2" 2>/dev/null || { rm -rf "$2"; cp -a "$1" "$2"; }
		find "$2" -name '*.db' -exec cp -a {} {}.new ';' -exec mv {}.new {} ';'`
	if out, err := exec.Command("sh", "-ec", script, "sh", from, part).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w\n%s", from, err, out)
	}
	return os.Rename(part, to)
}
