package contain_test

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan.dev/sampan/apps/internal/contain"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/apps/internal/runner/runnertest"
	"sampan.dev/sampan/engine"
)

func TestMain(m *testing.M) {
	if os.Getenv("SAMPAN_TEST_SERVE") != "" {
		runnertest.Serve()
		return
	}
	os.Exit(m.Run())
}

// machine skips where containers cannot run; in CI, as root, that is a failure.
func machine(t *testing.T) (busybox, self []byte) {
	t.Helper()
	missing := func(why string) {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Getuid() != 0 {
		missing("containers need root")
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		missing("install the package busybox-static")
	}
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Skip("this test binary is not static, so it does not run in an empty image")
	}
	if busybox, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if self, err = os.ReadFile("/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	return busybox, self
}

// image is a box with a shell and this test binary.
func image(t *testing.T, e *engine.Engine, busybox, self []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []struct {
		tar.Header
		body []byte
	}{
		{tar.Header{Name: "bin", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(busybox))}, busybox},
		{tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil},
		{tar.Header{Name: "bin/stty", Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil},
		{tar.Header{Name: "bin/sleep", Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil},
		{tar.Header{Name: "bin/env", Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil},
		{tar.Header{Name: "bin/tail", Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil},
		{tar.Header{Name: "program", Mode: 0o755, Size: int64(len(self))}, self},
	} {
		if err := w.WriteHeader(&h.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(h.body); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	_, err := e.Assemble(t.Context(), "box", "", []engine.Layer{{Open: func() (io.ReadCloser, error) {
		return io.NopCloser(&b), nil
	}}}, engine.ImageConfig{Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
}

// open opens the engine and the runner on it.
func open(t *testing.T, dir string) (*engine.Engine, *contain.Runner, func()) {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	closed := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	r, err := contain.New(t.Context(), e)
	if err != nil {
		closed()
		t.Fatal(err)
	}
	return e, r, closed
}

// world is an engine's directory with the image, of which nothing is left at the end.
func world(t *testing.T) string {
	t.Helper()
	busybox, self := machine(t)
	dir := t.TempDir()
	e, _, closed := open(t, dir)
	image(t, e, busybox, self)
	closed()
	t.Cleanup(func() {
		e, err := engine.Open(context.Background(), engine.Config{Dir: dir})
		if err != nil {
			t.Error(err)
			return
		}
		if err := e.Purge(context.Background()); err != nil {
			t.Error(err)
		}
		e.Close()
	})
	return dir
}

func TestRunner(t *testing.T) {
	dir := world(t)
	runnertest.Run(t, runnertest.Case{
		Open: func(t *testing.T) (runner.Runner, func()) {
			_, r, closed := open(t, dir)
			return r, closed
		},
		Artifact: runner.Artifact{Image: "box"},
		Program:  []string{"/bin/env", "SAMPAN_TEST_SERVE=1", "/program"},
	})
}

func TestAnInstanceThatEatsItsMemoryIsKilledAndSaysSo(t *testing.T) {
	_, r, closed := open(t, world(t))
	t.Cleanup(closed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	in, err := r.Start(ctx, runner.Spec{
		Name: "app-web-1", App: "1", Process: "web", Number: 1, Release: 1, Artifact: runner.Artifact{Image: "box"},
		Command: []string{"/bin/sh", "-c", "tail /dev/zero"}, Limits: runner.Limits{Memory: 16 << 20}, Port: 5000,
	})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := r.Wait(ctx, in.ID)
	if err != nil || !exit.OOM {
		t.Errorf("it ended with %+v, %v; want out of memory", exit, err)
	}
}

func TestAnInstanceForgesNoPackets(t *testing.T) {
	_, r, closed := open(t, world(t))
	t.Cleanup(closed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const rights = "00000000a80405fb" // Docker's without CAP_NET_RAW, 1<<13
	in, err := r.Start(ctx, runner.Spec{
		Name: "app-web-1", App: "1", Process: "web", Number: 1, Release: 1, Artifact: runner.Artifact{Image: "box"},
		Command: []string{"/bin/sh", "-c", "busybox grep -q '^CapBnd:.*" + rights + "' /proc/self/status"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := r.Wait(ctx, in.ID); err != nil || exit.Code != 0 {
		t.Errorf("looking for its rights it ended with %+v, %v", exit, err)
	}
}

// The images of all apps lie in one store: the beginning of an ID, which can be guessed, and
// a digest under another name are no way to what somebody else's app was built to.
func TestAnImageIsFoundByItsNameOnly(t *testing.T) {
	busybox, self := machine(t)
	e, r, closed := open(t, t.TempDir())
	defer closed()
	image(t, e, busybox, self)
	made, err := e.Image(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"box", "box:latest", "docker.io/library/box", "box@" + made.Digest} {
		if _, err := r.Fetch(t.Context(), ref); err != nil {
			t.Errorf("%s is not found: %v", ref, err)
		}
	}
	digits := strings.TrimPrefix(made.ID, "sha256:")
	for _, ref := range []string{digits[:4], digits[:12], made.ID, "127.0.0.1:1/box@" + made.Digest, "Box", ""} {
		if found, err := r.Fetch(t.Context(), ref); err == nil {
			t.Errorf("%q finds %v", ref, found)
		}
	}
}
