package archive_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/engine/docker/internal/archive"
)

// tree has files, links and one link that leads out of it.
func tree(t *testing.T) (archive.Tree, string) {
	root := filepath.Join(t.TempDir(), "root")
	for _, dir := range []string{"etc", "data/sub"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/passwd": "inside", "data/a": "A", "data/sub/b": "B", "../passwd": "outside"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"conf": "/etc", "data/l": "a", "up": "../../..", "out": "../passwd"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(root, "data/a"), filepath.Join(root, "data/z")); err != nil {
		t.Fatal(err)
	}
	return archive.Tree{Root: root}, root
}

func TestStat(t *testing.T) {
	tree, _ := tree(t)
	for _, c := range []struct {
		path, name, target string
		dir, missing       bool
	}{
		{path: "/data", name: "data", dir: true},
		{path: "data/", name: "data", dir: true},
		{path: "/data/.", name: ".", dir: true},
		{path: "/", name: "/", dir: true},
		{path: "/data/a", name: "a"},
		{path: "/data/l", name: "l", target: "/data/a"},
		{path: "/conf", name: "conf", target: "/etc"},
		{path: "/conf/", name: "conf", dir: true},
		{path: "/conf/passwd", name: "passwd"},
		{path: "/up", name: "up", target: "/"},
		{path: "/out", name: "out", target: "/passwd"},
		{path: "/up/passwd", missing: true},
		{path: "/../../passwd", missing: true},
		{path: "/none", missing: true},
		{path: "/data/a/", missing: true},
	} {
		f, err := tree.Stat(c.path)
		if c.missing {
			if err == nil {
				t.Errorf("%s is there", c.path)
			}
			continue
		}
		if err != nil || f.Name() != c.name || f.Target != c.target || f.IsDir() != c.dir {
			t.Errorf("%s: %q → %q, directory %v, %v", c.path, f.Name(), f.Target, f.IsDir(), err)
		}
	}
}

func names(t *testing.T, r io.Reader) []string {
	t.Helper()
	var all []string
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		line := h.Name
		if h.Linkname != "" {
			line += " → " + h.Linkname
		}
		if len(text) > 0 {
			line += " = " + string(text)
		}
		all = append(all, line)
	}
}

func TestPack(t *testing.T) {
	tree, _ := tree(t)
	below := []string{"/", "/a = A", "/l → a", "/sub/", "/sub/b = B", "/z → "}
	under := func(top string) (all []string) {
		for _, n := range below {
			if n == "/z → " {
				n += top + "/a"
			}
			all = append(all, top+n)
		}
		return all
	}
	for path, want := range map[string][]string{
		"/data":        under("data"),
		"/data/.":      under("."),
		"/data/a":      {"a = A"},
		"/data/l":      {"l → a"},
		"/conf":        {"conf → /etc"},
		"/conf/passwd": {"passwd = inside"},
		"/conf/":       {"conf/", "conf/passwd = inside"},
	} {
		var b bytes.Buffer
		if err := tree.Pack(&b, path); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := names(t, &b); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if err := tree.Pack(io.Discard, "/none"); err == nil {
		t.Error("what is not there was packed")
	}
}

func stream(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		text := ""
		if h.Typeflag == tar.TypeReg {
			text = "text of " + h.Name
		}
		h.Size = int64(len(text))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestUnpack(t *testing.T) {
	tree, root := tree(t)
	when := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	in := stream(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: when},
		tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4751, ModTime: when},
		tar.Header{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"},
		tar.Header{Name: "d/soft", Typeflag: tar.TypeSymlink, Linkname: "/anywhere", ModTime: when},
		tar.Header{Name: "new/deep/g", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
		tar.Header{Name: "../../escape", Typeflag: tar.TypeReg},
		tar.Header{Name: "sub", Typeflag: tar.TypeReg},
	)
	if err := tree.Unpack(in, "/data", archive.Options{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"data/d/f": "text of d/f", "data/d/hard": "text of d/f", "data/new/deep/g": "text of new/deep/g",
		"data/escape": "text of ../../escape", "data/sub": "text of sub",
	} {
		if got, err := os.ReadFile(filepath.Join(root, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"data/d": "drwx------", "data/d/f": "urwxr-x--x", "data/pipe": "prw-------", "data/d/soft": "Lrwxrwxrwx"} {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil || info.Mode().String() != want {
			t.Errorf("%s: %v, %v", name, info, err)
			continue
		}
		if name != "data/pipe" && !info.ModTime().Equal(when) {
			t.Errorf("%s is of %v", name, info.ModTime())
		}
	}
}

// Docker's CVE-2018-15664 and its kin: links in the container must not lead out of it.
func TestUnpackStaysInside(t *testing.T) {
	tree, root := tree(t)
	in := stream(t,
		tar.Header{Name: "evil", Typeflag: tar.TypeSymlink, Linkname: "../../../../../.."},
		tar.Header{Name: "evil/passwd", Typeflag: tar.TypeReg},
		tar.Header{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/etc/"},
		tar.Header{Name: "abs/shadow", Typeflag: tar.TypeReg},
		tar.Header{Name: "steal", Typeflag: tar.TypeLink, Linkname: "../../out"},
	)
	_ = tree.Unpack(in, "/data", archive.Options{})
	if got, _ := os.ReadFile(filepath.Join(root, "../passwd")); string(got) != "outside" {
		t.Errorf("outside is now %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "passwd")); string(got) != "text of evil/passwd" {
		t.Errorf("the link led elsewhere: %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "etc/shadow")); string(got) != "text of abs/shadow" {
		t.Errorf("the link led elsewhere: %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "data/steal")); strings.Contains(string(got), "outside") {
		t.Error("a file of the host was linked")
	}
}

func TestUnpackKeepsTypes(t *testing.T) {
	tree, root := tree(t)
	keep := archive.Options{KeepType: true}
	for _, h := range []tar.Header{
		{Name: "sub", Typeflag: tar.TypeReg},
		{Name: "a", Typeflag: tar.TypeDir},
	} {
		if err := tree.Unpack(stream(t, h), "/data", keep); err == nil || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Errorf("%s: %v", h.Name, err)
		}
		if err := tree.Unpack(stream(t, h), "/data", archive.Options{}); err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "data/a")); err != nil || !info.IsDir() {
		t.Error(info, err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("not a tar"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		root := t.TempDir()
		_ = archive.Tree{Root: root}.Unpack(bytes.NewReader(raw), "/", archive.Options{})
	})
}
