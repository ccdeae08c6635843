package step_test

import (
	"bytes"
	"strings"
	"testing"

	"sampan.dev/sampan/build/internal/step"
)

func TestOutput(t *testing.T) {
	for _, c := range []struct{ what, printed, want string }{
		{"lines are indented", "a\nb\n", "       a\n       b\n"},
		{"the last line needs no end", "a", "       a\n"},
		{"of a progress bar the last state stays", "1%\r50%\r100%\r\n", "       100%\n"},
		{"a terminal is not moved", "a\x07\x08b\n", "       ab\n"},
		{"bytes become text", "a\xffb\n", "       a\uFFFDb\n"},
	} {
		var out bytes.Buffer
		lines := step.To(&out, 1000).Lines()
		if _, err := lines.Write([]byte(c.printed)); err != nil {
			t.Error(err)
		}
		lines.Close()
		if out.String() != c.want {
			t.Errorf("%s: got %q", c.what, out.String())
		}
	}
}

func TestOutputEnds(t *testing.T) {
	var out bytes.Buffer
	o := step.To(&out, 1000)
	for range 1000 {
		o.Detail("a line of text")
	}
	if out.Len() > 1100 || !strings.Contains(out.String(), "the rest is left out") {
		t.Errorf("%d bytes", out.Len())
	}
	if n := len(o.Last()); n == 0 || n > 200 {
		t.Errorf("%d last lines", n)
	}
}

func FuzzLines(f *testing.F) {
	f.Add("a\r\nb\x1b[31m\xff", 3)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		var out bytes.Buffer
		lines := step.To(&out, 1<<20).Lines()
		cut = min(max(cut, 0), len(text))
		for _, part := range []string{text[:cut], text[cut:]} {
			if n, err := lines.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
		}
		lines.Close()
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "       ") || strings.ContainsAny(line, "\r\x00\x08") {
				t.Errorf("%q gives %q", text, line)
			}
		}
	})
}
