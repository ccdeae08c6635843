package git_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// open starts a Git and an empty repository.
func open(t *testing.T) (*git.Git, git.Repo) {
	t.Helper()
	g, err := git.New(t.Context(), git.Config{Home: filepath.Join(t.TempDir(), "home")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	dir := filepath.Join(t.TempDir(), `odd: "dir"`, "1.git")
	if err := g.Init(dir, "main"); err != nil {
		t.Fatal(err)
	}
	return g, g.At(dir)
}

// client runs the real git in a directory, as a person's machine would.
func client(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+dir,
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_AUTHOR_DATE=1700000000 +0000",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org", "GIT_COMMITTER_DATE=1700000000 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	os.MkdirAll(filepath.Dir(file), 0o755)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// history makes a work tree with two commits and returns it and the newer commit.
func history(t *testing.T) (dir, head string) {
	dir = t.TempDir()
	client(t, dir, "init", "-q", "-b", "main")
	write(t, dir, "README.md", "# hello\n")
	write(t, dir, "cmd/hello/main.go", "package main\n\nfunc main() {}\n")
	client(t, dir, "add", ".")
	client(t, dir, "commit", "-qm", "first\n\nwith a body")
	write(t, dir, "cmd/hello/main.go", "package main\n\nfunc main() { println() }\n")
	client(t, dir, "commit", "-qam", "second: ünïcode")
	return dir, client(t, dir, "rev-parse", "HEAD")
}

// pack makes the pack that a client would send for a commit.
func pack(t *testing.T, dir, commit string) []byte {
	cmd := exec.Command("git", "pack-objects", "--revs", "--stdout", "-q")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(commit+"\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// receive brings a commit in the way a push does.
func receive(t *testing.T, r git.Repo, dir, commit, ref string) {
	t.Helper()
	q, err := r.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	defer q.Drop()
	if err := q.Receive(t.Context(), bytes.NewReader(pack(t, dir, commit)), 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := q.Check(t.Context(), []string{commit}); err != nil {
		t.Fatal(err)
	}
	if err := q.Keep(); err != nil {
		t.Fatal(err)
	}
	c := wire.Command{Ref: ref, Old: wire.ZeroID, New: commit}
	if err := r.UpdateRefs(t.Context(), []wire.Command{c}, "push", git.Signer{Name: "ann", Email: "ann@localhost"}); err != nil {
		t.Fatal(err)
	}
}

func TestReceiveAndRead(t *testing.T) {
	_, r := open(t)
	ctx := t.Context()
	dir, head := history(t)
	receive(t, r, dir, head, "refs/heads/main")

	for _, rev := range []string{"main", "HEAD", "refs/heads/main", head, head[:8]} {
		if got, err := r.Resolve(ctx, rev); err != nil || got != head {
			t.Errorf("Resolve(%q) = %q, %v", rev, got, err)
		}
	}
	for _, rev := range []string{"", "nope", "main~1", "main:README.md", "@{-1}", "-x", "main\nHEAD", ":/first"} {
		if got, err := r.Resolve(ctx, rev); !errors.Is(err, git.ErrNotFound) {
			t.Errorf("Resolve(%q) = %q, %v", rev, got, err)
		}
	}
	_, entries, err := r.Tree(ctx, head, "")
	if err != nil || len(entries) != 2 || entries[0].Name != "README.md" || !entries[1].Dir() {
		t.Fatalf("tree %+v, %v", entries, err)
	}
	e, err := r.Entry(ctx, head, "cmd/hello/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.WriteBlob(ctx, e.ID, &text); err != nil || !strings.Contains(text.String(), "println") {
		t.Fatalf("%q, %v", text.String(), err)
	}
	for _, p := range []string{"../x", "/cmd", "cmd/", "cmd//hello", "README.md/x", "none"} {
		if _, err := r.Entry(ctx, head, p); !errors.Is(err, git.ErrNotFound) {
			t.Errorf("Entry(%q): %v", p, err)
		}
	}
}

func TestLog(t *testing.T) {
	_, r := open(t)
	ctx := t.Context()
	dir, head := history(t)
	receive(t, r, dir, head, "refs/heads/main")
	list, err := r.Log(ctx, git.LogOptions{From: head, Limit: 10})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if c := list[0]; c.Subject != "second: ünïcode" || c.Author.Name != "Ann" || len(c.Parents) != 1 {
		t.Errorf("newest is %+v", c)
	}
	if c := list[1]; c.Detail != "with a body" || len(c.Parents) != 0 {
		t.Errorf("oldest is %+v", c)
	}
	only, _ := r.Log(ctx, git.LogOptions{From: head, Limit: 10, Path: "README.md"})
	if len(only) != 1 || only[0].Subject != "first" {
		t.Errorf("of one file: %+v", only)
	}
	_, entries, _ := r.Tree(ctx, head, "")
	last, err := r.LastCommits(ctx, head, "", entries, 100)
	if err != nil || last["README.md"].Subject != "first" || last["cmd"].Subject != "second: ünïcode" {
		t.Errorf("last commits: %+v, %v", last, err)
	}
	inner, err := r.LastCommits(ctx, head, "cmd", []git.Entry{{Name: "hello"}}, 100)
	if err != nil || inner["hello"].ID != head {
		t.Errorf("last commits of cmd: %+v, %v", inner, err)
	}
	if n, err := r.CountCommits(ctx, head, 100); n != 2 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
	branches, err := r.Branches(ctx, false, 10)
	if err != nil || len(branches) != 1 || branches[0].Name != "main" || branches[0].Author != "Ann" {
		t.Errorf("branches %+v, %v", branches, err)
	}
}

func TestCheckout(t *testing.T) {
	_, r := open(t)
	dir, head := history(t)
	receive(t, r, dir, head, "refs/heads/main")
	to := filepath.Join(t.TempDir(), "work")
	committed, err := r.Checkout(t.Context(), head, to)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Commit(t.Context(), head); err != nil || !committed.Equal(c.Committed) || committed.IsZero() {
		t.Errorf("it was committed at %v, not %v (%v)", c.Committed, committed, err)
	}
	text, err := os.ReadFile(filepath.Join(to, "cmd/hello/main.go"))
	if err != nil || !strings.Contains(string(text), "println") {
		t.Fatalf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(to, ".git")); err == nil {
		t.Error("there is a .git")
	}
}

func TestACommitThatWouldFillTheDiskIsRefused(t *testing.T) {
	_, r := open(t)
	dir, _ := history(t)
	zeros := filepath.Join(dir, "zeros")
	if err := errors.Join(os.WriteFile(zeros, nil, 0o644), os.Truncate(zeros, 64<<20)); err != nil {
		t.Fatal(err)
	}
	blob := client(t, dir, "hash-object", "-w", "zeros")
	for i := range 65 { // 64 MiB each, and one blob in the pack
		client(t, dir, "update-index", "--add", "--cacheinfo", fmt.Sprintf("100644,%s,zeros%d", blob, i))
	}
	client(t, dir, "commit", "-qm", "large")
	head := client(t, dir, "rev-parse", "HEAD")
	receive(t, r, dir, head, "refs/heads/main")
	to := filepath.Join(t.TempDir(), "work")
	if _, err := r.Checkout(t.Context(), head, to); !fault.Is(err, fault.KindTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("something was written")
	}
}

func TestPacksThatAreRefused(t *testing.T) {
	dir, head := history(t)
	good := pack(t, dir, head)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 0x55
	cases := []struct {
		name  string
		pack  []byte
		limit int64
		kind  fault.Kind
		says  string
	}{
		{"a corrupt pack", bad, 0, fault.KindInvalid, "damaged"},
		{"a truncated pack", good[:len(good)-30], 0, fault.KindInvalid, "damaged"},
		{"no pack at all", nil, 0, fault.KindInvalid, "ended early"},
		{"something else", []byte("GET / HTTP/1.1\r\n\r\n"), 0, fault.KindInvalid, "no pack"},
		{"an oversized pack", good, int64(len(good)) - 1, fault.KindTooLarge, "limit"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, r := open(t)
			q, err := r.Quarantine()
			if err != nil {
				t.Fatal(err)
			}
			defer q.Drop()
			err = q.Receive(t.Context(), bytes.NewReader(c.pack), c.limit, nil)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
			q.Drop()
			left, _ := filepath.Glob(filepath.Join(r.Dir(), "objects", "*", "*"))
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestQuarantineIsInvisibleAndChecked(t *testing.T) {
	_, r := open(t)
	ctx := t.Context()
	dir, head := history(t)
	q, err := r.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Receive(ctx, bytes.NewReader(pack(t, dir, head)), 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Info(ctx, head); !errors.Is(err, git.ErrNotFound) {
		t.Errorf("visible before it was accepted: %v", err)
	}
	if info, err := r.With(q.Env()).Info(ctx, head); err != nil || info.Type != "commit" {
		t.Errorf("invisible to the gate: %+v, %v", info, err)
	}
	if err := q.Check(ctx, []string{strings.Repeat("1", 40)}); !fault.Is(err, fault.KindInvalid) {
		t.Errorf("a missing object: %v", err)
	}
	move := []wire.Command{{Ref: "refs/heads/main", Old: wire.ZeroID, New: head}}
	if err := r.With(q.Env()).UpdateRefs(ctx, move, "push", git.Signer{}); err == nil {
		t.Error("a ref moved to a quarantined object")
	}
	if err := q.Drop(); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateRefsIsOneTransactionAndSurvivesStaleLocks(t *testing.T) {
	_, r := open(t)
	ctx := t.Context()
	dir, head := history(t)
	receive(t, r, dir, head, "refs/heads/main")
	both := []wire.Command{
		{Ref: "refs/heads/a", Old: wire.ZeroID, New: head},
		{Ref: "refs/heads/main", Old: strings.Repeat("1", 40), New: head},
	}
	if err := r.UpdateRefs(ctx, both, "push", git.Signer{}); err == nil {
		t.Fatal("a wrong old value was accepted")
	}
	if got, _ := r.Lookup(ctx, []string{"refs/heads/a", "refs/heads/main"}); len(got) != 1 {
		t.Fatalf("half of the transaction happened: %v", got)
	}
	os.WriteFile(filepath.Join(r.Dir(), "refs/heads/a.lock"), nil, 0o600)
	if err := r.UpdateRefs(ctx, both[:1], "push", git.Signer{Name: "a<b>\n"}); err != nil {
		t.Fatalf("a stale lock blocks: %v", err)
	}
	log, err := os.ReadFile(filepath.Join(r.Dir(), "logs/refs/heads/a"))
	if err != nil || !strings.Contains(string(log), head) {
		t.Errorf("reflog %q, %v", log, err)
	}
}

func TestMaintainJoinsPacks(t *testing.T) {
	_, r := open(t)
	dir, head := history(t)
	receive(t, r, dir, head, "refs/heads/main")
	for i := range 30 {
		write(t, dir, "n.txt", strings.Repeat("x", i+1))
		client(t, dir, "add", ".")
		client(t, dir, "commit", "-qm", "n")
		q, err := r.Quarantine()
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Receive(t.Context(), bytes.NewReader(pack(t, dir, "HEAD")), 0, nil); err != nil {
			t.Fatal(err)
		}
		if err := q.Keep(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	packs, _ := filepath.Glob(filepath.Join(r.Dir(), "objects/pack/*.pack"))
	if len(packs) > 8 {
		t.Errorf("%d packs remain", len(packs))
	}
	if _, err := r.Info(t.Context(), client(t, dir, "rev-parse", "HEAD")); err != nil {
		t.Error("an object that no ref reaches was thrown away")
	}
}

func TestAContextEndsGit(t *testing.T) {
	_, r := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	in, w := io.Pipe() // a client that says nothing
	defer w.Close()
	started := make(chan struct{})
	out := writerFunc(func(p []byte) (int, error) {
		select {
		case <-started:
		default:
			close(started)
		}
		return len(p), nil
	})
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, git.UploadPack, git.Streams{In: in, Out: out}, git.ServeOptions{}) }()
	<-started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestValidRefAgreesWithGit(t *testing.T) {
	for _, name := range []string{"refs/heads/main", "refs/heads/a/b", "refs/heads/a..b", "refs/heads/a.lock", "refs/heads/.a", "refs/heads/a.",
		"refs/heads/a b", "refs/heads/a~", "refs/heads/@", "refs/heads/a@{b", "refs/heads//a", "refs/heads/a/", "refs/heads/a\\b", "refs/heads/ü",
		"refs/tags/v1.0", "refs/x/y", "refs/heads/a.lock/b", "refs/heads/-a"} {
		want := exec.Command("git", "check-ref-format", name).Run() == nil
		if got := git.ValidRef(name); got != want {
			t.Errorf("ValidRef(%q) = %v, git says %v", name, got, want)
		}
	}
	for _, name := range []string{"HEAD", "refs/heads", "heads/main", "", "refs/", "../x"} {
		if git.ValidRef(name) {
			t.Errorf("ValidRef(%q)", name)
		}
	}
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte("100644 a\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Fuzz(func(t *testing.T, in []byte) {
		entries, err := git.ParseTree(in)
		if err != nil {
			return
		}
		for _, e := range entries {
			if !wire.ValidID(e.ID) || e.Name == "" {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func BenchmarkTreeAndBlob(b *testing.B) {
	g, err := git.New(b.Context(), git.Config{Home: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	dir := b.TempDir()
	if out, err := exec.Command("sh", "-c", "cd "+dir+` && git init -qb main && echo hi >f && git add f &&
		git -c user.name=a -c user.email=a@b commit -qm x`).CombinedOutput(); err != nil {
		b.Fatalf("%v %s", err, out)
	}
	r := g.At(filepath.Join(dir, ".git"))
	for b.Loop() {
		_, entries, err := r.Tree(b.Context(), "refs/heads/main", "")
		if err != nil {
			b.Fatal(err)
		}
		if err := r.WriteBlob(b.Context(), entries[0].ID, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
