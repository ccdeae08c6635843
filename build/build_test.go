package build_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/build"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// A place is where builds of a test run.
type place struct {
	builder *build.Builder
	engine  *engine.Engine // nil on the host
	close   func()
}

// onHost opens a Builder whose shared files stay in .cache, so that only a first run fetches.
func onHost(t testing.TB) place {
	t.Helper()
	dir, err := filepath.Abs("../.cache/build/host")
	if err != nil {
		t.Fatal(err)
	}
	b, err := build.Open(t.Context(), build.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	closed := func() { b.Close() }
	t.Cleanup(closed)
	return place{builder: b, close: closed}
}

// commit is when all commits of these tests were made.
var commit = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// scope is a cache of its own, forgotten after the test.
func (p place) scope(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		if err := p.builder.Forget(context.WithoutCancel(t.Context()), name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// build builds a tree and returns what was printed.
func (p place) build(t testing.TB, tree, cache, version string) (build.Result, string, error) {
	t.Helper()
	var out bytes.Buffer
	r, err := p.builder.Build(t.Context(), build.Request{
		Cache: cache, Tree: tree, Commit: version, Time: commit, Name: "sampan.local/test/" + filepath.Base(tree), Output: &out,
	})
	t.Logf("%s\n%s", filepath.Base(tree), &out)
	return r, out.String(), err
}

// digest is the same for equal results: an image's own, or that of a directory's files.
func digest(t *testing.T, r build.Result) string {
	t.Helper()
	if r.Image != "" {
		_, d, _ := strings.Cut(r.Image, "@")
		return d
	}
	h := sha256.New()
	err := fs.WalkDir(os.DirFS(r.Dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(r.Dir, name))
		fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// An example is an app of ../examples, what is found in it, and how to break it.
type example struct {
	name, builder, found string
	processes            []string
	file, broken, reason string // a file's text that makes the build fail, and what is said then
	answer               string // to GET /
}

var examples = []example{
	{"hello-go", "Go", "go.mod at the root names go 1.26", []string{"web"},
		"main.go", "package main\n\nfunc main() { undefined() }\n", "undefined: undefined", "Hello from Sampan"},
	{"procfile", "Go", "go.mod at the root names go 1.26", []string{"web", "worker"},
		"Procfile", "web bin/web\n", "line 1", "the web process"},
	{"static", "static", "the directory public/", []string{"web"},
		"Procfile", "web bin/web\n", "line 1", "A static site"},
	{"hello-node", "Node", "package.json at the root asks for Node >=20", []string{"web"},
		"package-lock.json", "{}", "npm ci failed", "Hello from Node"},
	{"dockerfile", "Dockerfile", "Dockerfile at the root", []string{"web"},
		"Dockerfile", "FROM scratch\nBOGUS x\n", "Dockerfile line 2: unknown instruction: BOGUS", "built from a Dockerfile"},
}

// conform is what every builder must do, wherever it builds.
func conform(t *testing.T, p place, e example) {
	tree := filepath.Join("../examples", e.name)
	cache := p.scope(t)
	first, out, err := p.build(t, tree, cache, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if want := "-----> " + e.builder + ": " + e.found; !strings.HasPrefix(out, want) {
		t.Errorf("the output does not begin with %q", want)
	}
	if first.Builder != e.builder || first.Cached {
		t.Errorf("got %+v", first)
	}
	for _, name := range e.processes {
		if _, ok := first.Processes[name]; !ok {
			t.Errorf("no process %s in %v", name, first.Processes)
		}
	}
	if e.answer != "" {
		if got := p.fetch(t, first); !strings.Contains(got, e.answer) {
			t.Errorf("the app answers %q, want %q", got, e.answer)
		}
	}
	again, _, err := p.build(t, tree, cache, "c1")
	if err != nil || !again.Cached || digest(t, again) != digest(t, first) {
		t.Errorf("the same commit again: %+v, %v", again, err)
	}
	other, _, err := p.build(t, tree, p.scope(t), "c1")
	if err != nil || other.Cached || digest(t, other) != digest(t, first) {
		t.Errorf("the same commit without caches: %+v, %v", other, err)
	}
	broken := t.TempDir()
	if err := os.CopyFS(broken, os.DirFS(tree)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, e.file), []byte(e.broken), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err = p.build(t, broken, cache, "c2")
	if f, ok := fault.Of(err); !ok || f.Hint == "" || !strings.Contains(f.Message, e.reason) {
		t.Errorf("a broken commit: got %v, want a fault with %q and what to do", err, e.reason)
	}
}

func TestOnHost(t *testing.T) {
	t.Parallel() // beside TestInContainers alone: the others share their directories
	p := onHost(t)
	for _, e := range examples {
		if e.builder != "Dockerfile" {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				conform(t, p, e)
			})
		}
	}
}

func TestDockerfilesAreRefusedOnHost(t *testing.T) {
	p := onHost(t)
	_, _, err := p.build(t, "../examples/dockerfile", p.scope(t), "c1")
	if f, ok := fault.Of(err); !ok || !strings.Contains(f.Message, "needs containers") || f.Hint == "" {
		t.Errorf("got %v", err)
	}
}
