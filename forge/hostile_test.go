package forge_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sampan.dev/sampan/forge"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// The permission matrix of both doors: who × what × visibility × role.
func TestWhoMayDoWhat(t *testing.T) {
	s := serve(t)
	ann, bob := s.person("ann"), s.person("bob")
	unknown := s.person("")
	dir := ann.work()
	for _, c := range []struct {
		repo       string
		visibility identity.Visibility
		bob        identity.Role
		stranger   bool // may fetch
		see, push  bool // bob
	}{
		{"private", identity.Private, identity.None, false, false, false},
		{"internal", identity.Internal, identity.None, false, true, false},
		{"public", identity.Public, identity.None, true, true, false},
		{"reader", identity.Private, identity.Reader, false, true, false},
		{"writer", identity.Private, identity.Writer, false, true, true},
	} {
		t.Run(c.repo, func(t *testing.T) {
			r := s.create("ann", c.repo, c.visibility)
			if c.bob != identity.None {
				s.must(s.identity.Grant(t.Context(), s.who("ann"), r.Object(), identity.Subject{Person: s.who("bob").ID}, c.bob))
			}
			path := "ann/" + c.repo
			ann.git(dir, "push", "-q", ann.sshURL(path), "main")
			try := func(what string, allowed bool, p *person, args ...string) {
				t.Helper()
				out, err := p.command(dir, "git", args...).CombinedOutput()
				if (err == nil) != allowed {
					t.Errorf("%s: allowed is %v, got %v\n%s", what, allowed, err, out)
				}
			}
			try("a stranger fetches", c.stranger, unknown, "ls-remote", unknown.httpURL("", path))
			try("a stranger pushes", false, unknown, "push", unknown.httpURL("", path), "main:refs/heads/stranger")
			try("an unknown key fetches", false, unknown, "ls-remote", unknown.sshURL(path))
			try("bob fetches by HTTP", c.see, bob, "ls-remote", bob.httpURL("bob", path))
			try("bob fetches by SSH", c.see, bob, "ls-remote", bob.sshURL(path))
			try("bob pushes by HTTP", c.push, bob, "push", bob.httpURL("bob", path), "main:refs/heads/bob-http")
			try("bob pushes by SSH", c.push, bob, "push", bob.sshURL(path), "main:refs/heads/bob-ssh")
			try("bob pushes with a wrong password", false, bob, "push", strings.Replace(bob.httpURL("bob", path), "correct", "wrong", 1), "main:refs/heads/w")
			if !c.see {
				missing := bob.fails(dir, "ls-remote", bob.sshURL("ann/nothing"))
				hidden := bob.fails(dir, "ls-remote", bob.sshURL(path))
				if strings.ReplaceAll(hidden, c.repo, "nothing") != missing {
					t.Errorf("what is hidden answers %q, what is missing %q", hidden, missing)
				}
			}
		})
	}
}

// A stranger gets the same answer for what is hidden and for what is missing.
func TestHiddenIsMissing(t *testing.T) {
	s := serve(t)
	s.create("ann", "secret", identity.Private)
	for _, path := range []string{"/ann/%s", "/ann/%s/tree/main", "/ann/%s/settings", "/ann/%s/info/refs?service=git-upload-pack",
		"/ann/%s.git/info/refs?service=git-receive-pack", "/api/v1/repos/ann/%s", "/ann/%s/raw/main/x"} {
		status, text := s.get(fmt.Sprintf(path, "secret"), "")
		status2, text2 := s.get(fmt.Sprintf(path, "nothing"), "")
		text = strings.ReplaceAll(text, "secret", "nothing")
		if status != status2 || status == 200 || scrub(text) != scrub(text2) {
			t.Errorf("%s: %d and %d\n%s\n%s", path, status, status2, text, text2)
		}
	}
}

// scrub takes away what differs between any two answers.
func scrub(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if !strings.Contains(line, "nonce") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestTokensKeepToTheirScope(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	one, _ := s.create("ann", "one", identity.Private), s.create("ann", "two", identity.Private)
	dir := ann.work()
	ann.git(dir, "push", "-q", ann.sshURL("ann/one"), "main")
	ann.git(dir, "push", "-q", ann.sshURL("ann/two"), "main")
	token := func(name string, scope *identity.Scope) string {
		secret, _, err := s.identity.NewToken(t.Context(), s.who("ann"), name, scope)
		s.must(err)
		return strings.Replace(s.url, "http://", "http://ann:"+secret+"@", 1) + "/ann/"
	}
	read := token("read", &identity.Scope{Rights: []identity.Right{identity.RightRepoRead}})
	only := token("only", &identity.Scope{Rights: []identity.Right{identity.RightRepoWrite}, Objects: []identity.ObjectRef{{Kind: "repo", ID: one.ID}}})
	apps := token("apps", &identity.Scope{Rights: []identity.Right{identity.RightAppWrite}})
	ann.git(dir, "ls-remote", read+"one")
	if out := ann.fails(dir, "push", read+"one", "main:refs/heads/x"); !strings.Contains(out, "403") {
		t.Errorf("a reading token pushes: %s", out)
	}
	ann.git(dir, "push", "-q", only+"one", "main:refs/heads/y")
	ann.fails(dir, "ls-remote", only+"two")
	ann.fails(dir, "ls-remote", apps+"one")
}

func TestSSHCommands(t *testing.T) {
	s := serve(t, func(s *site) {
		s.forge.Consoles(func(_ context.Context, who identity.Who, args []string, st forge.Streams) (int, bool, error) {
			if args[0] != "echo" {
				return 0, false, nil
			}
			io.Copy(st.Out, st.In)
			fmt.Fprintf(st.Err, "%s said %q on a terminal: %v", who.Name, args[1:], st.Terminal != nil)
			return 7, true, nil
		})
	})
	ann := s.person("ann")
	if out, ok := ann.ssh(); !ok || !strings.HasPrefix(out, "Hi ann, you are signed in.") {
		t.Errorf("the greeting is %q", out)
	}
	if out, _ := ann.ssh("echo", "'a b'"); !strings.Contains(out, `ann said ["a b"] on a terminal: false`) {
		t.Errorf("the console says %q", out)
	}
	for _, command := range []string{
		"sh", "git-upload-pack '../../etc'", "git-upload-pack '/ann/../bob/x'", "git-upload-pack --upload-pack=x /ann/x", "git-upload-pack",
		"git-upload-pack 'ann/x", "git-receive-pack '-x'", "git-upload-pack '/etc/passwd'", "git-upload-archive ann/none", "git upload-pack ~/x",
	} {
		if out, ok := ann.ssh(command); ok || !strings.Contains(out, "Sampan: ") {
			t.Errorf("%q: %v %q", command, ok, out)
		}
	}
	if out, ok := s.person("").ssh(); ok {
		t.Errorf("an unknown key gets in: %q", out)
	}
}

func TestPushesThatAreRefused(t *testing.T) {
	s := serveWith(t, forge.Limits{Push: 64 << 10})
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	for _, url := range []string{ann.sshURL("ann/hello"), ann.httpURL("ann", "ann/hello")} {
		dir := ann.work()
		ann.git(dir, "push", "-q", "-f", url, "main")
		cases := []struct {
			name string
			args []string
			says string
		}{
			{"a reserved name", []string{"push", url, "main:refs/pull/1/head"}, "keeps these names"},
			{"the default branch deleted", []string{"push", url, ":main"}, "default branch cannot be deleted"},
			{"a name below another", []string{"push", url, "main:refs/heads/main/below"}, "collides"},
			{"all or nothing", []string{"push", "--atomic", url, "main:refs/heads/new", "main:refs/pull/1"}, "atomic push failed"},
			{"a blob as a branch", []string{"push", url, ann.git(dir, "rev-parse", "HEAD:README.md") + ":refs/heads/blob"}, "can only name a commit"},
		}
		for _, c := range cases {
			if out := ann.fails(dir, c.args...); !strings.Contains(out, c.says) {
				t.Errorf("%s: %s", c.name, out)
			}
		}
		if out := ann.git(dir, "ls-remote", url); strings.Contains(out, "new") {
			t.Errorf("half of an atomic push happened: %s", out)
		}
		ann.commit(dir, "big.bin", noise(256<<10))
		if out := ann.fails(dir, "push", url, "main"); !strings.Contains(out, "larger than 64 KiB") {
			t.Errorf("an oversized push: %s", out)
		}
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, "git/*/*.git/objects/incoming-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// noise does not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

func TestTwoPushesAtOnce(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	base := ann.work()
	url := ann.sshURL("ann/hello")
	ann.git(base, "push", "-q", url, "main")
	const n = 4
	ok := make([]bool, n)
	var wg sync.WaitGroup
	for i := range n {
		dir := filepath.Join(t.TempDir(), "copy")
		ann.git(t.TempDir(), "clone", "-q", base, dir)
		ann.commit(dir, fmt.Sprintf("f%d", i), "x")
		wg.Go(func() {
			out, err := ann.command(dir, "git", "push", url, "main").CombinedOutput()
			ok[i] = err == nil
			if err != nil && !bytes.Contains(out, []byte("fetch first")) {
				t.Errorf("the loser hears %s", out)
			}
		})
	}
	wg.Wait()
	won := 0
	for _, w := range ok {
		if w {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %d pushes of the same branch were accepted", won, n)
	}
}

func TestABrokenConversationLeavesNothing(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	dir := ann.work()
	head := ann.git(dir, "rev-parse", "HEAD")
	pack, err := exec.Command("sh", "-c", "cd "+dir+" && echo "+head+" | git pack-objects --revs --stdout -q").Output()
	s.must(err)
	line := strings.Repeat("0", 40) + " " + head + " refs/heads/main\x00report-status side-band-64k\n"
	commands := fmt.Sprintf("%04x%s0000", len(line)+4, line)
	post := func(body io.Reader) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/ann/hello/git-receive-pack", body)
		s.must(err)
		req.Header.Set("Content-Type", "application/x-git-receive-pack-request")
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ann:"+password)))
		return s.do(req)
	}
	broken := bytes.Clone(pack)
	broken[len(broken)/2] ^= 0xff
	for name, body := range map[string]string{
		"no pack":           commands,
		"half a pack":       commands + string(pack[:len(pack)/2]),
		"a corrupt pack":    commands + string(broken),
		"half of a command": commands[:50],
		"not git at all":    "hello",
		"no objects":        commands + "PACK\x00\x00\x00\x02\x00\x00\x00\x00\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e",
	} {
		status, text := post(strings.NewReader(body))
		if status == 200 && !strings.Contains(text, "ng refs/heads/main") {
			t.Errorf("%s: %d %q", name, status, text)
		}
	}
	if out := ann.git(dir, "ls-remote", ann.sshURL("ann/hello")); out != "" {
		t.Fatalf("something was accepted: %s", out)
	}
	if status, text := post(strings.NewReader(commands + string(pack))); status != 200 || !strings.Contains(text, "ok refs/heads/main") {
		t.Errorf("the whole push: %d %q", status, text)
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, "git/*/*.git/objects/incoming-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A client that vanishes before its pack is complete leaves no trace; one that vanishes
// afterwards has pushed.
func TestVanishingClient(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{})
	pushed := make(chan forge.Push, 1)
	s := serve(t, func(s *site) {
		s.must(event.On(s.events, forge.Pushed, "test", func(_ context.Context, p forge.Push) error {
			pushed <- p
			return nil
		}))
		s.forge.AfterPush(func(ctx context.Context, p forge.Push, out io.Writer) error {
			close(entered)
			select {
			case <-gate:
			case <-ctx.Done():
				t.Error("the deploy was cancelled")
			}
			fmt.Fprintln(out, "nobody hears this")
			return nil
		})
	})
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	dir := ann.work()
	cmd := ann.command(dir, "git", "push", "-q", ann.sshURL("ann/hello"), "main")
	s.must(cmd.Start())
	<-entered
	cmd.Process.Kill()
	cmd.Wait()
	close(gate)
	if p := <-pushed; len(p.Updates) != 1 {
		t.Errorf("%+v", p)
	}
}

func TestGateDecides(t *testing.T) {
	dir := t.TempDir()
	var env []string
	s := serve(t, func(s *site) {
		s.must(s.forge.Init(dir + "/app.git"))
		s.forge.Remotes(func(_ context.Context, who identity.Who, name string, _ bool) (forge.Remote, error) {
			if name != "app" || who.Name != "ann" {
				return forge.Remote{}, fault.NotFound("no such repository: %s", name)
			}
			return forge.Remote{Dir: dir + "/app.git", Gate: func(ctx context.Context, p forge.Push, quarantine []string, out io.Writer) error {
				env = quarantine
				to := t.TempDir()
				checkout := exec.CommandContext(ctx, "git", "--git-dir="+dir+"/app.git", "--work-tree="+to, "checkout", p.Updates[0].New, "--", ".")
				checkout.Env = append(os.Environ(), quarantine...)
				if out, err := checkout.CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				fmt.Fprintln(out, "-----> building")
				if _, err := filepath.Glob(to + "/broken"); err != nil {
					return err
				}
				if m, _ := filepath.Glob(to + "/broken"); len(m) > 0 {
					return fault.Invalid("the build failed").Try("look above")
				}
				return nil
			}}, nil
		})
	})
	ann := s.person("ann")
	work := ann.work()
	for _, url := range []string{ann.sshURL("app.git"), ann.httpURL("ann", "app.git")} {
		ann.commit(work, "n.txt", url)
		if out := ann.git(work, "push", url, "main"); !strings.Contains(out, "remote: -----> building") {
			t.Errorf("the gate says %q", out)
		}
		ann.commit(work, "broken", "x")
		if out := ann.fails(work, "push", url, "main"); !strings.Contains(out, "the build failed") || !strings.Contains(out, "look above") {
			t.Errorf("the gate says %q", out)
		}
		ann.git(work, "rm", "-q", "broken")
		ann.git(work, "commit", "-qm", "mend")
		if out := ann.git(work, "ls-remote", url, "refs/heads/main"); strings.HasPrefix(out, ann.git(work, "rev-parse", "HEAD~1")) {
			t.Error("a refused push moved the ref")
		}
	}
	if len(env) == 0 {
		t.Error("the gate got no quarantine")
	}
	s.person("bob").fails(work, "ls-remote", s.person("bob").sshURL("app.git"))
}
