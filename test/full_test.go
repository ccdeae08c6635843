package test_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The disk is full: what cannot be written is refused with the reason, what was acknowledged
// stays, the server and its apps run on, and all is well again when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("a file system of its own needs root on Linux")
	}
	m := beginSmall(t, "size=600m")
	before := deployTicker(t, m, "steady")
	if _, err := m.sampan("ann", "repo", "create", "notes"); err != nil {
		t.Fatal(err)
	}
	notes := m.path("notes")
	if err := m.example("static", notes); err != nil {
		t.Fatal(err)
	}
	push := func() (string, error) { return m.run("ann", notes, "git", "push", "-q", m.sshURL("ann/notes"), "main") }
	if out, err := push(); err != nil {
		t.Fatal(out, err)
	}
	kept, err := m.run("ann", notes, "git", "rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}

	ballast := filepath.Join(m.data, "ballast")
	fillUp(t, ballast)
	if err := os.WriteFile(filepath.Join(notes, "large"), noise(1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, git := range [][]string{{"add", "."}, {"commit", "-q", "-m", "large"}} {
		if _, err := m.run("ann", notes, "git", git...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := push()
	if err == nil {
		t.Error("a push was acknowledged that there was no room for")
	} else if !strings.Contains(out, "disk is full") {
		t.Errorf("the push was refused without the reason:\n%s", out)
	}
	refused := 0
	for range 20 { // small writes may find room in what was reserved before
		if out, err := m.sampan("ann", "config", "set", "NOISE="+hex.EncodeToString(noise(4000)), "-a", "steady"); err != nil {
			refused++
			if !strings.Contains(out, "full") {
				t.Errorf("the configuration was refused without the reason:\n%s", out)
			}
			break
		}
	}
	t.Logf("configuration refused: %d", refused)
	for n := range 6 { // the intention has a reserve; what it asks for may be refused
		if out, err := m.sampan("ann", "scale", fmt.Sprintf("web=%d", 2-n%2), "-a", "steady"); err != nil && !strings.Contains(out, "no space left") {
			t.Errorf("scaling was refused without the reason:\n%s", out)
		}
	}
	if head, err := m.run("ann", notes, "git", "ls-remote", m.sshURL("ann/notes"), "main"); err != nil || !strings.HasPrefix(head, strings.TrimSpace(kept)) {
		t.Errorf("the branch is at %q %v, and %s was acknowledged", head, err, kept)
	}
	answer(t, m, "steady")

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if out, err := push(); err != nil {
		t.Errorf("a push after there was room again: %v\n%s", err, out)
	}
	if out, err := m.sampan("ann", "config", "set", "ROOM=yes", "-a", "steady"); err != nil {
		t.Errorf("configuration after there was room again: %v\n%s", err, out)
	}
	if after := answer(t, m, "steady"); after == before {
		t.Error("the new configuration has not been deployed")
	}
}

// beginSmall is begin with the data directory on a file system of its own.
func beginSmall(t *testing.T, options string) *machine {
	t.Helper()
	m, err := coldMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.data, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("sampan-test", m.data, "tmpfs", 0, options); err != nil {
		t.Skipf("mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(m.data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := warm(m, standard); err != nil {
		t.Fatal(err)
	}
	beginOn(t, m, os.Environ())
	return m
}

// noise is what cannot be compressed.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.Read(b)
	return b
}

// fillUp makes a file that takes all the room there is.
func fillUp(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := 1 << 20; chunk > 0; {
		if _, err := f.Write(make([]byte, chunk)); err == nil {
			continue
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		chunk /= 2
	}
}
