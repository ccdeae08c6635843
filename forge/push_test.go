package forge_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"sampan.dev/sampan/forge"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

func TestPushAndCloneOverBothDoors(t *testing.T) {
	pushed := make(chan forge.Push, 8)
	s := serve(t, func(s *site) {
		s.must(event.On(s.events, forge.Pushed, "test", func(_ context.Context, p forge.Push) error {
			pushed <- p
			return nil
		}))
		s.forge.AfterPush(func(_ context.Context, p forge.Push, out io.Writer) error {
			fmt.Fprintf(out, "deploying %d update of %s\n", len(p.Updates), p.Path)
			return nil
		})
	})
	ann := s.person("ann")
	for _, door := range []struct{ name, url string }{
		{"ssh", ann.sshURL("ann/ssh.git")},
		{"http", ann.httpURL("ann", "ann/http")},
	} {
		t.Run(door.name, func(t *testing.T) {
			s.create("ann", door.name, identity.Private)
			dir := ann.work()
			out := ann.git(dir, "push", door.url, "main")
			if !strings.Contains(out, "remote: deploying 1 update of ann/"+door.name) {
				t.Errorf("the push says %q", out)
			}
			p := <-pushed
			if p.Path != "ann/"+door.name || p.PusherName != "ann" || len(p.Updates) != 1 || p.Updates[0].Ref != "refs/heads/main" {
				t.Errorf("event %+v", p)
			}
			copied := t.TempDir()
			ann.git(copied, "clone", "-q", door.url, "copy")
			if a, b := ann.git(copied+"/copy", "rev-parse", "HEAD"), ann.git(dir, "rev-parse", "HEAD"); a != b || a != p.Updates[0].New {
				t.Errorf("cloned %s, pushed %s, announced %s", a, b, p.Updates[0].New)
			}
			ann.commit(dir, "more.txt", "more")
			ann.git(dir, "push", "-q", door.url, "main", "HEAD:refs/tags/v1")
			if p := <-pushed; len(p.Updates) != 2 {
				t.Errorf("event %+v", p)
			}
			ann.git(copied+"/copy", "pull", "-q")
			ann.git(copied, "clone", "-q", "--depth=1", door.url, "shallow")
			ann.commit(copied+"/shallow", "from-shallow.txt", "x")
			ann.git(copied+"/shallow", "push", "-q", "origin", "main")
			<-pushed
			ann.git(copied, "clone", "-q", "--filter=blob:none", "--bare", door.url, "partial")
			if out := ann.git(dir, "-c", "protocol.version=2", "ls-remote", door.url, "refs/heads/*"); !strings.Contains(out, "refs/heads/main") {
				t.Errorf("ls-remote says %q", out)
			}
			ann.git(copied, "-c", "protocol.version=0", "clone", "-q", door.url, "old")
		})
	}
}

func TestTheFirstBranchBecomesTheDefault(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	dir := ann.work()
	ann.git(dir, "push", "-q", ann.sshURL("ann/hello"), "main:trunk")
	r, err := s.forge.Repo(t.Context(), s.who("ann"), "ann/hello")
	s.must(err)
	if r.Default != "trunk" {
		t.Errorf("the default branch is %s", r.Default)
	}
	if out := ann.git(t.TempDir(), "clone", ann.sshURL("ann/hello")); strings.Contains(out, "nonexistent") {
		t.Errorf("a clone says %q", out)
	}
}

// A server that stops does not wait for a deploy longer than a moment.
func TestStoppingDuringADeploy(t *testing.T) {
	entered := make(chan struct{})
	var cmd *exec.Cmd
	t.Cleanup(func() { cmd.Wait() }) // runs after the site has stopped
	s := serve(t, func(s *site) {
		s.forge.AfterPush(func(ctx context.Context, _ forge.Push, _ io.Writer) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		})
	})
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	cmd = ann.command(ann.work(), "git", "push", "-q", ann.sshURL("ann/hello"), "main")
	s.must(cmd.Start())
	<-entered
}

func TestATakenPortIsNamed(t *testing.T) {
	s := serve(t)
	_, err := forge.Open(t.Context(), forge.Config{Dir: t.TempDir(), SSHAddr: s.ssh, HTTPURL: s.url, DB: s.db, Identity: s.identity, Events: s.events, UI: s.ui})
	if f, ok := fault.Of(err); !ok || f.Field != "ssh" || !strings.Contains(err.Error(), s.ssh) {
		t.Errorf("opening it twice says %v", err)
	}
}

func TestClientsOfOtherKinds(t *testing.T) {
	s := serve(t)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Public)
	dir := ann.work()
	ann.git(dir, "push", "-q", ann.sshURL("ann/hello"), "main")
	for path, want := range map[string]int{
		"/ann/hello/info/refs":                         403, // a client that reads files
		"/ann/hello/HEAD":                              404,
		"/ann/hello/objects/info/packs":                404,
		"/ann/hello/info/refs?service=git-upload-pack": 200,
		"/ann/hello/info/refs?service=git-sh":          403,
	} {
		if status, text := s.get(path, ""); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, text)
		}
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprint(w, "0014command=ls-refs\n00010009peel\n0000")
	w.Close()
	for encoding, want := range map[string]int{"gzip": 200, "br": 400} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/ann/hello/git-upload-pack", bytes.NewReader(z.Bytes()))
		s.must(err)
		req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		req.Header.Set("Content-Encoding", encoding)
		req.Header.Set("Git-Protocol", "version=2")
		status, text := s.do(req)
		if status != want || want == 200 && !strings.Contains(text, "refs/heads/main") {
			t.Errorf("a request in %s: %d %q", encoding, status, text)
		}
	}
	if out := ann.git(dir, "archive", "--remote="+ann.sshURL("ann/hello"), "--format=tar", "main"); !strings.Contains(out, "# hello") {
		t.Error("git archive --remote brings no files")
	}
}
