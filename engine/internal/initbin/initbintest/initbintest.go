// Package initbintest builds sampan-init for tests that run real containers.
package initbintest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Build returns the path of a sampan-init built from the tree. It is built once for all
// packages and kept in the user's cache; a second build of the same sources is quick. A test
// that cannot run containers is skipped: it needs Linux, root and a C compiler.
func Build(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv("SAMPAN_INIT"); path != "" {
		return path
	}
	need(tb, os.Geteuid() == 0, "running containers needs root")
	_, err := exec.LookPath("gcc")
	need(tb, err == nil, "building sampan-init needs a C compiler (Debian: gcc libc6-dev)")
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "sampan-test")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	defer lock(tb, filepath.Join(dir, "lock"))()
	path := filepath.Join(dir, "sampan-init")
	depend(tb)
	args := []string{"build", "-tags", "netgo osusergo", "-ldflags", "-s -w -linkmode external -extldflags -static"}
	if raceDetector {
		path += "-race"
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "-o", path, "./engine/cmd/sampan-init")...)
	cmd.Dir = root(tb)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build sampan-init: %v\n%s", err, out)
	}
	return path
}

// depend opens the sources, so that `go test` knows of them and does not take an old result.
func depend(tb testing.TB) {
	tb.Helper()
	for _, pattern := range []string{"engine/cmd/sampan-init/*", "engine/internal/supervisor/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root(tb), pattern))
		if err != nil {
			tb.Fatal(err)
		}
		for _, path := range files {
			if f, err := os.Open(path); err == nil {
				f.Close()
			}
		}
	}
}

// need skips on a laptop and fails in CI.
func need(tb testing.TB, ok bool, why string) {
	tb.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true" && os.Geteuid() == 0:
		tb.Fatal(why)
	default:
		tb.Skip(why)
	}
}

func lock(tb testing.TB, path string) (unlock func()) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		tb.Fatal(err)
	}
	return func() { f.Close() }
}

// root is the top of the source tree that this file lies in.
func root(tb testing.TB) string {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		tb.Skip("the test was built without paths of its sources; set SAMPAN_INIT")
	}
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}
