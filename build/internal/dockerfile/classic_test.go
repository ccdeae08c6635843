//go:build linux

package dockerfile

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A build context is anybody's: what is in the archive stays in its directory.
func TestAContextStaysInItsDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("unpacking a context needs root")
	}
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "Dockerfile", Mode: 0o644},
		{Name: "evil", Typeflag: tar.TypeSymlink, Linkname: outside},
		{Name: "evil/pwned", Mode: 0o644, Size: 1},
		{Name: "../above", Mode: 0o644},
		{Name: "taken", Typeflag: tar.TypeLink, Linkname: "evil/secret"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "x")
		}
	}
	w.Close()
	dir := filepath.Join(t.TempDir(), "context")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Classic{Context: &b}.options(dir)
	t.Logf("unpacking says: %v", err)
	if _, err := os.Lstat(filepath.Join(outside, "pwned")); err == nil {
		t.Error("a file was written through a link")
	}
	if _, err := os.Lstat(filepath.Join(dir, "../above")); err == nil {
		t.Error("a file was written above")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "taken")); err == nil && string(text) == "secret" {
		t.Error("a file of the host was taken by a link")
	}
}
