package push_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/push"
	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/identity"
)

// crash names the environment of a child process that dies in the middle of a push.
const crash = "SAMPAN_TEST_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crash); dir != "" {
		fmt.Fprintln(os.Stderr, die(dir, os.Getenv(crash+"_DB")))
		os.Exit(1)
	}
	dbtest.Main(m)
}

// bench is a Service with what is below it, and one repository, number 1.
type bench struct {
	db     *db.DB
	events *event.Bus
	git    *git.Git
	push   *push.Service
	repo   git.Repo
}

func open(ctx context.Context, dir, url string, moved func()) (*bench, error) {
	b := &bench{}
	var err error
	if b.db, err = db.Open(ctx, db.Config{URL: url}); err != nil {
		return nil, err
	}
	if b.events, err = event.Open(ctx, event.Config{DB: b.db}); err != nil {
		return nil, err
	}
	if b.git, err = git.New(ctx, git.Config{Home: filepath.Join(dir, "home")}); err != nil {
		return nil, err
	}
	b.repo = b.git.At(filepath.Join(dir, "1.git"))
	if err := b.git.Init(b.repo.Dir(), "main"); err != nil {
		return nil, err
	}
	b.push, err = push.Open(ctx, push.Config{
		DB: b.db, Events: b.events, Log: slog.New(slog.DiscardHandler), Dir: func(int64) git.Repo { return b.repo },
		Moved: func(context.Context, *db.Tx, push.Push) error { moved(); return nil },
	})
	return b, err
}

func (b *bench) close() {
	b.push.Close()
	b.git.Close()
	b.events.Close()
	b.db.Close()
}

// die pushes what lies in dir and is killed when the refs have moved and nothing is
// committed yet.
func die(dir, url string) error {
	ctx := context.Background()
	b, err := open(ctx, dir, url, func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	if err != nil {
		return err
	}
	request, err := os.ReadFile(filepath.Join(dir, "request"))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	err = b.push.Receive(ctx, identity.Who{ID: 7, Name: "ann"}, push.Target{Git: b.repo, ID: 1, Path: "ann/hello"}, bytes.NewReader(request), &out)
	return fmt.Errorf("the push ended: %w, %q", err, out.String())
}

// request is what a client sends to push a first commit to main and a tag.
func request(t *testing.T) (text []byte, head string) {
	t.Helper()
	dir := t.TempDir()
	script := `git init -q -b main && echo hi >f && git add f && git -c user.name=a -c user.email=a@example.org commit -qm x && git rev-parse HEAD`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	head = strings.TrimSpace(string(out))
	cmd = exec.Command("git", "pack-objects", "--revs", "--stdout", "-q")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(head+"\n")
	pack, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text = wire.Append(nil, wire.ZeroID+" "+head+" refs/heads/main\x00report-status\n")
	text = wire.Append(text, wire.ZeroID+" "+head+" refs/tags/v1\n")
	return append(wire.AppendFlush(text), pack...), head
}

// A push whose server was killed between the refs and the commit is announced once, when
// the server starts again, and not a second time after that.
func TestKilledBetweenRefsAndCommit(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		text, head := request(t)
		if err := os.WriteFile(filepath.Join(dir, "request"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crash+"="+dir, crash+"_DB="+url)
		if out, err := child.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child was not killed: %v %s", err, out)
		}
		for again, want := range []int{1, 0} {
			b, err := open(t.Context(), dir, url, func() {})
			if err != nil {
				t.Fatal(err)
			}
			if id, err := b.repo.Resolve(t.Context(), "main"); err != nil || id != head {
				t.Fatalf("main is %s, %v", id, err)
			}
			got := announced(t, b)
			if len(got) != want {
				t.Fatalf("start %d announces %d pushes, want %d", again+1, len(got), want)
			}
			if want == 1 && (len(got[0].Updates) != 2 || got[0].PusherName != "ann" || got[0].Updates[0].New != head) {
				t.Errorf("announced %+v", got[0])
			}
			b.close()
		}
	})
}

// announced collects the events that wait to be delivered. The last one is our own.
func announced(t *testing.T, b *bench) (got []push.Push) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	err := event.On(b.events, push.Pushed, "test", func(_ context.Context, p push.Push) error {
		if p.ID == "end" {
			cancel()
			return nil
		}
		got = append(got, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = b.db.Tx(ctx, func(tx *db.Tx) error { return event.Emit(ctx, b.events, tx, push.Pushed, push.Push{ID: "end"}) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.events.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return got
}

// An intent whose refs never moved is taken back; of one that moved half, half is announced.
func TestKilledBeforeTheRefs(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		b, err := open(t.Context(), dir, url, func() {})
		if err != nil {
			t.Fatal(err)
		}
		text, head := request(t)
		var out bytes.Buffer
		target := push.Target{Git: b.repo, ID: 1, Path: "ann/hello"}
		if err := b.push.Receive(t.Context(), identity.Who{ID: 7, Name: "ann"}, target, bytes.NewReader(text), &out); err != nil || !strings.Contains(out.String(), "ok refs/tags/v1") {
			t.Fatalf("%v %q", err, out.String())
		}
		if len(announced(t, b)) != 1 {
			t.Fatal("the push was not announced")
		}
		const pending = `INSERT INTO forge_push (id, repo, path, pusher, pusher_name, updates, at) VALUES (?, 1, 'ann/hello', 7, 'ann', ?, 1)`
		none := fmt.Sprintf(`[{"ref":"refs/heads/x","old":"%s","new":"%s"}]`, wire.ZeroID, head)
		half := fmt.Sprintf(`[{"ref":"refs/heads/main","old":"%s","new":"%s"},{"ref":"refs/heads/x","old":"%s","new":"%s"}]`, wire.ZeroID, head, wire.ZeroID, head)
		for id, updates := range map[string]string{"none": none, "half": half} {
			if _, err := b.db.Exec(t.Context(), pending, id, updates); err != nil {
				t.Fatal(err)
			}
		}
		b.close()
		if b, err = open(t.Context(), dir, url, func() {}); err != nil {
			t.Fatal(err)
		}
		defer b.close()
		got := announced(t, b)
		if len(got) != 1 || got[0].ID != "half" || len(got[0].Updates) != 1 || got[0].Updates[0].Ref != "refs/heads/main" {
			t.Errorf("announced %+v", got)
		}
	})
}
