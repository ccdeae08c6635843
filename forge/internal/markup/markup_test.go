package markup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestMarkdown(t *testing.T) {
	w := NewWorkers(1)
	links := Links{Base: "/ann/x", Rev: "main", Dir: "doc"}
	for source, want := range map[string]string{
		"# A *b*":                          `<h1 id="a-b">A <em>b</em></h1>`,
		"[other](../a.md#b)":               `<p><a href="/ann/x/blob/main/a.md#b" rel="nofollow">other</a></p>`,
		"![picture](p.png)":                `<p><img src="/ann/x/raw/main/doc/p.png" alt="picture"></p>`,
		"[x](javascript:alert(1))":         "<p>x</p>",
		"a <script>alert(1)</script> b":    "<p>a alert(1) b</p>",
		"<b onclick=x>y</b>":               "<p>y</p>",
		"- [x] done":                       `<input checked="" disabled="" type="checkbox"> done`,
		"[a](https://example.org/ \"t\") ": `rel="nofollow"`,
	} {
		html, err := w.Markdown(t.Context(), links, source)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(html)); !strings.Contains(got, want) {
			t.Errorf("%s\n got %s\nwant %s", source, got, want)
		}
	}
}

func TestHighlight(t *testing.T) {
	w := NewWorkers(1)
	html, err := w.File(t.Context(), "main.go", "package main\n")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(html), `<span class="kn">package</span>`) || !strings.Contains(string(html), `id="L1"`) {
		t.Errorf("got %s", html)
	}
	lines, err := w.Lines(t.Context(), "main.go", []string{"func f() {", `x := "<"`})
	if err != nil || len(lines) != 2 {
		t.Fatalf("got %q, %v", lines, err)
	}
	if !strings.Contains(string(lines[0]), `<span class="kd">func</span>`) || !strings.Contains(string(lines[1]), "&#34;&lt;&#34;") {
		t.Errorf("got %q", lines)
	}
	if lines, err = w.Lines(t.Context(), "unknown.kind", []string{"<"}); err != nil || lines[0] != "&lt;" {
		t.Errorf("got %q, %v", lines, err)
	}
}

// What takes longer than one may have is given up, the worker with it, and the next text
// is rendered as ever.
func TestTooHard(t *testing.T) {
	w := NewWorkers(1)
	for name, render := range map[string]func() error{
		"quotes in quotes": func() error {
			_, err := w.Markdown(t.Context(), Links{}, strings.Repeat(">", 500_000))
			return err
		},
		"a pattern that goes back": func() error {
			_, err := w.File(t.Context(), "x.java", strings.Repeat("\n", 500_000))
			return err
		},
	} {
		if err := render(); !errors.Is(err, ErrTooHard) {
			t.Errorf("%s: %v", name, err)
		}
		if html, err := w.Markdown(t.Context(), Links{}, "after"); html != "<p>after</p>\n" || err != nil {
			t.Errorf("after %s: %q, %v", name, html, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrTooHard)
	if lines, err := w.Lines(ctx, "x.go", []string{"<"}); err != nil || lines[0] != "&lt;" {
		t.Errorf("with no time left: %q, %v", lines, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	w := NewWorkers(2)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			want := fmt.Sprintf("<p>%d</p>\n", i)
			if html, err := w.Markdown(t.Context(), Links{}, fmt.Sprint(i)); string(html) != want || err != nil {
				t.Errorf("got %q, %v", html, err)
			}
		})
	}
	all.Wait()
	if n := len(w.idle); n < 1 || n > 2 {
		t.Errorf("%d workers are left", n)
	}
	w.idle[0].cmd.Process.Kill()
	w.idle[0].cmd.Wait()
}

func BenchmarkFile(b *testing.B) {
	w := NewWorkers(1)
	text := strings.Repeat("func f(a int) string { return fmt.Sprintf(\"%d\", a) } // a comment\n", 300)
	for b.Loop() {
		if _, err := w.File(b.Context(), "main.go", text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWorkerStart(b *testing.B) {
	for b.Loop() {
		w := NewWorkers(1)
		if _, err := w.Markdown(b.Context(), Links{}, "x"); err != nil {
			b.Fatal(err)
		}
		w.idle[0].kill()
	}
}
