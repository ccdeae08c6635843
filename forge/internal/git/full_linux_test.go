package git_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/fault"
)

// A full disk refuses a push in so many words, keeps what was accepted, and takes pushes
// again once there is room.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("a small disk cannot be mounted here:", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	g, err := git.New(t.Context(), git.Config{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	r := g.At(filepath.Join(disk, "1.git"))
	if err := g.Init(r.Dir(), "main"); err != nil {
		t.Fatal(err)
	}
	dir, head := history(t)
	receive(t, r, dir, head, "refs/heads/main")
	noise := make([]byte, 2<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	write(t, dir, "noise", string(noise))
	client(t, dir, "add", ".")
	client(t, dir, "commit", "-qm", "noise")
	q, err := r.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	err = q.Receive(t.Context(), bytes.NewReader(pack(t, dir, "HEAD")), 0, nil)
	if !fault.Is(err, fault.KindFull) {
		t.Errorf("a full disk says %v", err)
	}
	if err := q.Drop(); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	os.WriteFile(filler, noise, 0o600) // as much as there is room for
	if _, err := r.Quarantine(); !fault.Is(err, fault.KindFull) && err != nil {
		t.Errorf("no room for a directory says %v", err)
	}
	if got, err := r.Resolve(t.Context(), "main"); err != nil || got != head {
		t.Errorf("what was accepted is %s, %v", got, err)
	}
	os.Remove(filler)
	os.WriteFile(filepath.Join(dir, "noise"), []byte("little"), 0o600)
	client(t, dir, "commit", "-q", "--amend", "-am", "little")
	receive(t, r, dir, client(t, dir, "rev-parse", "HEAD"), "refs/heads/little")
}
