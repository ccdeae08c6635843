package build_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sampan.dev/sampan/build"
	"sampan.dev/sampan/engine"
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
	t.Cleanup(func() {
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
	return place{b, e}
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
	p := inContainers(t)
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) { conform(t, p, e) })
	}
}
