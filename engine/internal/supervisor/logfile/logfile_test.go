package logfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor/logfile"
)

func lines(t testing.TB, path string) (all []logfile.Line) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		l, err := logfile.Parse(line)
		if err != nil {
			t.Errorf("%.80q: %v", line, err)
		}
		all = append(all, l)
	}
	return all
}

func texts(all []logfile.Line) (out []string) {
	for _, l := range all {
		out = append(out, l.Stream+":"+string(l.Text))
	}
	return out
}

func open(t testing.TB, path string, size int64, files int) *logfile.Writer {
	t.Helper()
	w, err := logfile.Open(path, size, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestLinesAreWholeAndInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, 0, 0)
	w.Write("stdout", []byte("one\ntw"))
	w.Write("stderr", []byte("err \"quoted\" \\ \x00\x7f\té\xff世\n"))
	w.Write("stdout", []byte("o\n\nend"))
	if got := texts(lines(t, path)); len(got) != 4 {
		t.Errorf("an unfinished line was written early: %q", got)
	}
	w.End()
	got := strings.Join(texts(lines(t, path)), "|")
	want := "stdout:one\n|stderr:err \"quoted\" \\ \x00\x7f\té\uFFFD世\n|stdout:two\n|stdout:\n|stdout:end"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestACharacterMayLieAcrossWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, 0, 0)
	for _, b := range []byte("世界\n") {
		w.Write("stdout", []byte{b})
	}
	if got := texts(lines(t, path)); len(got) != 1 || got[0] != "stdout:世界\n" {
		t.Errorf("got %q", got)
	}
}

func TestALongLineIsSplit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, 0, 0)
	long := strings.Repeat("x", 2*logfile.MaxLine+5)
	w.Write("stdout", []byte(long+"\n"))
	all := lines(t, path)
	var joined string
	for i, l := range all {
		joined += string(l.Text)
		if last := i == len(all)-1; strings.HasSuffix(string(l.Text), "\n") != last || len(l.Text) > logfile.MaxLine {
			t.Errorf("piece %d of %d has %d bytes", i, len(all), len(l.Text))
		}
	}
	if joined != long+"\n" || len(all) != 3 {
		t.Errorf("%d pieces, %d bytes", len(all), len(joined))
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, path, 1000, 3)
	for i := range 100 {
		w.Write("stdout", []byte(strings.Repeat(string(rune('a'+i%26)), 40)+"\n"))
	}
	var kept []logfile.Line
	for _, p := range []string{path + ".2", path + ".1", path} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > 1000 {
			t.Fatalf("%s: %v, %v", p, info, err)
		}
		kept = append(kept, lines(t, p)...)
	}
	if _, err := os.Stat(path + ".3"); err == nil {
		t.Error("a fourth file was kept")
	}
	for i, l := range kept { // the last ones, without a gap
		if want := byte('a' + (100-len(kept)+i)%26); l.Text[0] != want {
			t.Fatalf("line %d is %q, want %q", i, l.Text[0], want)
		}
	}
}

func TestACutOffLineIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(`{"log":"cut o`), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path, 0, 0).Write("stdout", []byte("next\n"))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, _ := bytes.Cut(b, []byte("\n")); !bytes.Contains(rest, []byte(`"next\n"`)) {
		t.Errorf("got %q", b)
	}
}

// A full disk loses lines, says how many, and never half of one.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path, ballast := filepath.Join(dir, "log"), filepath.Join(dir, "ballast")
	w := open(t, path, 0, 0)
	w.Write("stdout", []byte("before\n"))
	if err := os.WriteFile(ballast, make([]byte, 56<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		w.Write("stdout", []byte(strings.Repeat("x", 100)+"\n"))
	}
	lost := w.Lost()
	if lost == 0 || lost == 100 {
		t.Fatalf("%d lines were lost", lost)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.Write("stdout", []byte("after\n"))
	got := texts(lines(t, path))
	if n := len(got); n != int(1+100-lost+2) || got[n-1] != "stdout:after\n" || !strings.Contains(got[n-2], "lines of output were lost here: no space left on device") {
		t.Errorf("%d lost, %d lines, the end is %q", lost, n, got[n-2:])
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.678Z"}`))
	f.Add([]byte(`{"log":"\ud800"}`))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := logfile.Parse(b); err == nil && !utf8.Valid(l.Text) {
			t.Errorf("%q is not UTF-8", l.Text)
		}
	})
}

// What is written can be read, and by encoding/json too.
func FuzzWrite(f *testing.F) {
	f.Add([]byte("hello\nworld"), 3)
	f.Add([]byte("\xff\xe4\xb8"), 1)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		path := filepath.Join(dir, "log")
		os.Remove(path)
		w := open(t, path, 0, 0)
		cut = min(max(cut, 0), len(p))
		w.Write("stdout", p[:cut])
		w.Write("stdout", p[cut:])
		w.Close()
		var text []byte
		for _, l := range lines(t, path) {
			text = append(text, l.Text...)
		}
		if want := strings.ToValidUTF8(string(p), "\uFFFD"); utf8.Valid(p) && string(text) != want {
			t.Errorf("got %q, want %q", text, want)
		}
		b, _ := os.ReadFile(path)
		for line := range bytes.Lines(b) {
			var v struct{ Time time.Time }
			if err := json.Unmarshal(line, &v); err != nil || v.Time.IsZero() {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w := open(b, filepath.Join(b.TempDir(), "log"), 0, 0)
	p := bytes.Repeat([]byte("a line of output as a server writes it for each request, 200 OK\n"), 64)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		w.Write("stdout", p)
	}
}
