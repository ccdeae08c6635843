package blob_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sampan.dev/sampan/internal/blob"
	"sampan.dev/sampan/internal/blob/blobtest"
	"sampan.dev/sampan/internal/fault"
)

func openDir(t *testing.T, dir string) *blob.Dir {
	t.Helper()
	d, err := blob.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirIsAStore(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return openDir(t, filepath.Join(t.TempDir(), "blob")) })
}

func TestWhatACrashLeftIsCleared(t *testing.T) {
	dir := t.TempDir()
	ref, err := openDir(t, dir).Put(t.Context(), strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "tmp", "put-1")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, dir)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
	if ok, err := d.Has(t.Context(), ref.Digest); err != nil || !ok {
		t.Errorf("the finished blob: %v, %v", ok, err)
	}
}

func TestADamagedBlobIsNoticedAndMended(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	ref, err := d.Put(t.Context(), strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	sum := strings.TrimPrefix(ref.Digest, "sha256:")
	file := filepath.Join(dir, "sha256", sum[:2], sum)
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte("hullo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	read := func() error {
		r, _, err := d.Open(t.Context(), ref.Digest)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, blob.Verify(r, ref.Digest))
		return err
	}
	if err := read(); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("reading a damaged blob: %v", err)
	}
	if _, err := d.Put(t.Context(), strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil {
		t.Errorf("after it was put again: %v", err)
	}
}

func TestAFullDiskIsSaidAndLeavesNothing(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	d := openDir(t, dir)
	_, err := d.Put(t.Context(), io.LimitReader(zeros{}, 4<<20))
	if !fault.Is(err, fault.KindFull) {
		t.Fatalf("put on a full disk: %v", err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if _, err := d.Put(t.Context(), strings.NewReader("small")); err != nil {
		t.Errorf("what still has room: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func FuzzDigest(f *testing.F) {
	d, err := blob.OpenDir(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("sha256:" + strings.Repeat("a", 64))
	f.Add("sha256:" + strings.Repeat("../", 21) + "a")
	f.Fuzz(func(t *testing.T, digest string) {
		_, _, err := d.Open(t.Context(), digest)
		if !fault.Is(err, fault.KindInvalid) && !fault.Is(err, fault.KindNotFound) {
			t.Errorf("%q: %v", digest, err)
		}
	})
}
