package engine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var initOnce sync.Once

// built is the path of a sampan-init made from this tree, once for all tests.
func built(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("SAMPAN_INIT"); path != "" {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "sampan", "sampan-init-test")
	initOnce.Do(func() {
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "netgo osusergo",
			"-ldflags", "-s -w -linkmode external -extldflags -static", "-o", path, "sampan.dev/sampan/engine/cmd/sampan-init")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build sampan-init: %v\n%s", err, out)
		}
	})
	return path
}
