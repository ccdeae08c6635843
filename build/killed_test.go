package build_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// child is set in the process that is killed.
const child = "SAMPAN_TEST_KILLED"

// A server that is killed in the middle of a Dockerfile's step leaves it running; the next one
// ends it.
func TestKilledInTheMiddleOfAStep(t *testing.T) {
	const nap = "86399"
	if os.Getenv(child) != "" {
		p := inContainers(t)
		_, _, err := p.build(t, tree(t, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nRUN sleep " + nap + "\n"}), "killed", "c1")
		t.Fatal(err)
	}
	p := inContainers(t) // makes the image
	if _, _, err := p.build(t, tree(t, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\n"}), "killed", "c0"); err != nil {
		t.Fatal(err)
	}
	p.close()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledInTheMiddleOfAStep$")
	cmd.Env = append(os.Environ(), child+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for !sleeps(t, nap) {
		if time.Now().After(deadline) {
			t.Fatal("the step does not begin")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !sleeps(t, nap) {
		t.Skip("the step ended by itself")
	}
	again := inContainers(t)
	if sleeps(t, nap) {
		t.Error("the step runs on")
	}
	if err := again.builder.Forget(t.Context(), "killed"); err != nil {
		t.Error(err)
	}
}

// sleeps looks for a process "sleep nap".
func sleeps(t *testing.T, nap string) bool {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if text, err := os.ReadFile(file); err == nil && bytes.HasPrefix(text, []byte("sleep\x00"+nap)) {
			return true
		}
	}
	return false
}
