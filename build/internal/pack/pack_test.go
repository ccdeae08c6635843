package pack_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sampan.dev/sampan/build/internal/pack"
)

// files makes a directory; order and times differ from call to call.
func files(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Unix(int64(i), 5)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEqualFilesGiveEqualBytes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var one, two bytes.Buffer
	for w, dir := range map[*bytes.Buffer]string{&one: files(t, "b", "a/c", "d"), &two: files(t, "d", "b", "a/c")} {
		if err := pack.Tar(t.Context(), w, pack.Part{Dir: dir, At: "/app/x", Skip: "d"}, at); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the layers differ")
	}
	var got []string
	for r := tar.NewReader(&one); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(at.Truncate(time.Second)) || h.Uid != 0 {
			t.Errorf("%s: %s, owner %d", h.Name, h.ModTime, h.Uid)
		}
		got = append(got, fmt.Sprintf("%s %o %s", h.Name, h.Mode, h.Linkname))
	}
	want := []string{"app/ 755 ", "app/x/ 755 ", "app/x/a/ 755 ", "app/x/a/c 644 ", "app/x/b 644 ", "app/x/link 777 /etc/passwd"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q", got)
	}
}

func TestUndatedPartsKeepTheirDigest(t *testing.T) {
	dir := files(t, "a")
	part := pack.Part{Dir: dir, At: "/app", Undated: true}
	var one, two bytes.Buffer
	if err := pack.Tar(t.Context(), &one, part, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := pack.Tar(t.Context(), &two, part, time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("a later commit changes an undated part")
	}
}
