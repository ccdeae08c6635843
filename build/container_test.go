package build_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sampan.dev/sampan/build"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// inContainers opens a Builder on an engine of its own, both in .cache.
func inContainers(t testing.TB) place {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	dir, err := filepath.Abs("../.cache/build")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	e, err := engine.Open(t.Context(), engine.Config{Dir: filepath.Join(dir, "engine"), Init: supervisor(t, dir), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(run) }()
	b, err := build.Open(t.Context(), build.Config{Engine: e, Dir: filepath.Join(dir, "contained"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceFunc(func() {
		b.Close()
		if err := e.Purge(context.WithoutCancel(t.Context())); err != nil { // the images stay
			t.Error(err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(closed)
	return place{b, e, closed}
}

// supervisor is the program that runs containers, built as make does.
func supervisor(t testing.TB, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "sampan-init")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "netgo osusergo",
		"-ldflags", "-s -w -linkmode external -extldflags -static", "-o", file, "./engine/cmd/sampan-init")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build sampan-init: %v\n%s", err, out)
	}
	return file
}

func TestInContainers(t *testing.T) {
	t.Parallel()
	p := inContainers(t)
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			conform(t, p, e)
		})
	}
}

// A command of a Procfile may use a shell's variables; it still is the process that gets signals.
func TestProcfileWithVariables(t *testing.T) {
	p := inContainers(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../examples/hello-go")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Procfile"), []byte("web: SOURCE_VERSION=port-$PORT bin/hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, _, err := p.build(t, dir, p.scope(t), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.fetch(t, r); !strings.Contains(got, "version port-8080") {
		t.Errorf("got %q", got)
	}
}

// Steps of a Dockerfile reach the network by name, and neither the host's loopback nor another
// scope's cache mounts.
func TestDockerfileSteps(t *testing.T) {
	p := inContainers(t)
	write := "FROM debian:bookworm-slim\nRUN --mount=type=cache,target=/c test -e /c/mine && exit 9; echo x > /c/mine\n"
	scope := p.scope(t)
	if _, _, err := p.build(t, tree(t, map[string]string{"Dockerfile": write}), scope, "c1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.build(t, tree(t, map[string]string{"Dockerfile": write}), p.scope(t), "c1"); err != nil {
		t.Errorf("a cache mount of another scope: %v", err)
	}
	again := strings.Replace(write, "exit 9", "exit 8", 1)
	_, _, err := p.build(t, tree(t, map[string]string{"Dockerfile": again}), scope, "c2")
	if f, ok := fault.Of(err); !ok || !strings.Contains(f.Message, "line 2") || !strings.Contains(f.Message, "exit code: 8") {
		t.Errorf("its own cache mount: %v", err)
	}
	network := "FROM debian:bookworm-slim\n" +
		"RUN mirror=$(sed -nE 's,.*(http|https)://([^/: ]+).*,\\2,p' /etc/apt/sources.list | head -n 1) && getent hosts $mirror && ! (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null\n"
	if _, _, err := p.build(t, tree(t, map[string]string{"Dockerfile": network}), scope, "c3"); err != nil {
		t.Errorf("the network: %v", err)
	}
	_, _, err = p.build(t, tree(t, map[string]string{"Dockerfile": "FROM registry.invalid/nothing:1\n"}), scope, "c4")
	if f, ok := fault.Of(err); !ok || f.Hint == "" || !strings.Contains(f.Message, "cannot be pulled") {
		t.Errorf("an image that nobody has: %v", err)
	}
}
