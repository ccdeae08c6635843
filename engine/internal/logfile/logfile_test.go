package logfile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/engine/internal/logfile"
)

func line(n int) string {
	return fmt.Sprintf(`{"log":"%d\n","stream":"stdout","time":"2026-01-01T00:00:%02dZ"}`+"\n", n, n%60)
}

func put(t testing.TB, path string, from, to int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := from; i < to; i++ {
		if _, err := f.WriteString(line(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRead(t *testing.T) {
	f := logfile.File{Path: filepath.Join(t.TempDir(), "log"), Files: 3}
	put(t, f.Path+".2", 0, 10)
	put(t, f.Path+".1", 10, 20)
	put(t, f.Path, 20, 25)
	at := func(second int) time.Time { return time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC) }
	cases := []struct {
		sentence string
		options  logfile.Options
		from, to int
	}{
		{"everything is read from the oldest file on", logfile.Options{}, 0, 25},
		{"the last lines are in the newest file", logfile.Options{Tail: 3}, 22, 25},
		{"the last lines are exactly the newest file", logfile.Options{Tail: 5}, 20, 25},
		{"the last lines begin in an older file", logfile.Options{Tail: 7}, 18, 25},
		{"more lines are asked for than there are", logfile.Options{Tail: 100}, 0, 25},
		{"no old line is asked for", logfile.Options{Tail: -1}, 25, 25},
		{"lines since a time", logfile.Options{Since: at(12)}, 12, 25},
		{"lines until a time", logfile.Options{Until: at(12)}, 0, 13},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			var got, want []string
			err := f.Read(t.Context(), c.options, func(l logfile.Line) error {
				got = append(got, strings.TrimSpace(l.Text))
				return nil
			})
			for i := c.from; i < c.to; i++ {
				want = append(want, fmt.Sprint(i))
			}
			if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestAFollowerSeesEachLineOnceAcrossRotation(t *testing.T) {
	f := logfile.File{Path: filepath.Join(t.TempDir(), "log"), Files: 50}
	const lines = 2000
	end := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		defer close(end)
		for n := 0; n < lines; n += 100 {
			put(t, f.Path, n, n+50)
			for i := f.Files - 2; i >= 0; i-- {
				from := f.Path
				if i > 0 {
					from = fmt.Sprintf("%s.%d", f.Path, i)
				}
				os.Rename(from, fmt.Sprintf("%s.%d", f.Path, i+1))
			}
			put(t, f.Path, n+50, n+100)
		}
		written <- nil
	}()
	next := 0
	err := f.Read(t.Context(), logfile.Options{Follow: end}, func(l logfile.Line) error {
		if l.Text != fmt.Sprintf("%d\n", next) {
			return fmt.Errorf("line %q comes where %d should", l.Text, next)
		}
		next++
		return nil
	})
	<-written
	if err != nil || next != lines {
		t.Errorf("%d lines, %v", next, err)
	}
}

func TestAFollowerEndsWithItsContext(t *testing.T) {
	f := logfile.File{Path: filepath.Join(t.TempDir(), "log"), Files: 3}
	put(t, f.Path, 0, 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := f.Read(ctx, logfile.Options{Follow: make(chan struct{})}, func(logfile.Line) error { cancel(); return nil })
	if err != context.Canceled {
		t.Errorf("the error is %v", err)
	}
}

func TestWhatIsNoLineIsSkipped(t *testing.T) {
	f := logfile.File{Path: filepath.Join(t.TempDir(), "log"), Files: 1}
	text := line(1) + "\x00\x00\x00\n" + strings.Repeat("x", 3<<20) + "\n" + line(2) + `{"log":"half`
	if err := os.WriteFile(f.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := ""
	err := f.Read(t.Context(), logfile.Options{}, func(l logfile.Line) error { got += l.Text; return nil })
	if err != nil || got != "1\n2\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(line(1)))
	f.Add([]byte(`{"log":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if l, ok := logfile.Parse(raw); !ok && l != (logfile.Line{}) {
			t.Errorf("a line of nothing: %+v", l)
		}
	})
}
