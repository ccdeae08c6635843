package secret_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sampan.dev/sampan/internal/secret"
)

func TestSealedValuesOpenOnlyInTheirContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret.key")
	box, err := secret.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	sealed := box.Seal([]byte("s3cret"), "app 1")
	if bytes.Contains(sealed, []byte("s3cret")) {
		t.Fatal("the sealed value holds the plain text")
	}
	again, err := secret.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := again.Unseal(sealed, "app 1")
	if err != nil || string(plain) != "s3cret" {
		t.Fatalf("after reopening: %q, %v", plain, err)
	}
	if _, err := again.Unseal(sealed, "app 2"); err == nil {
		t.Error("a value moved to another context was opened")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := again.Unseal(sealed, "app 1"); err == nil {
		t.Error("a changed value was opened")
	}
	if !bytes.Equal(box.Derive("cookies"), again.Derive("cookies")) || bytes.Equal(box.Derive("a"), box.Derive("b")) {
		t.Error("derived keys must be stable and differ by purpose")
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", info.Mode())
	}
}

func TestABrokenKeyFileIsNotReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret.key")
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Open(file); err == nil {
		t.Fatal("a broken key file was accepted")
	}
}
