package process_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"sampan.dev/sampan/apps/internal/process"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/apps/internal/runner/runnertest"
)

// serveEnv makes this test binary the app that the tests run.
const serveEnv = "SAMPAN_TEST_SERVE=1"

func TestMain(m *testing.M) {
	if os.Getenv("SAMPAN_TEST_SERVE") != "" {
		runnertest.Serve()
		return
	}
	os.Exit(m.Run())
}

// reachable is a directory that the user nobody may enter, as a data directory is.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sampan-process-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// program copies this test binary to where nobody may run it.
func program(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "program")
	if err := os.WriteFile(file, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRunner(t *testing.T) {
	dir := reachable(t)
	runnertest.Run(t, runnertest.Case{
		Open: func(t *testing.T) (runner.Runner, func()) {
			r, err := process.Open(t.Context(), filepath.Join(dir, "run"), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return r, func() { r.Close() }
		},
		Artifact: runner.Artifact{Dir: dir},
		Program:  []string{"/usr/bin/env", serveEnv, program(t, dir)},
	})
}
