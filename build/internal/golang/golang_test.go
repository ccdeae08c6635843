package golang_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"sampan.dev/sampan/build/internal/golang"
)

func TestRelease(t *testing.T) {
	own := golang.Own()
	for _, c := range []struct{ what, text, want string }{
		{"no go line takes Sampan's own release", "module x", own},
		{"an older go line is a minimum", "module x\ngo 1.20", own},
		{"a newer go line is obeyed", "module x\ngo 1.99.3", "go1.99.3"},
		{"a newer language version means its first release", "module x\ngo 1.99", "go1.99.0"},
		{"a release candidate is one", "module x\ngo 1.99rc1", "go1.99rc1"},
		{"a toolchain line is obeyed to the letter", "module x\ngo 1.22\ntoolchain go1.22.3", "go1.22.3"},
		{"toolchain default says nothing", "module x\ngo 1.20\ntoolchain default", own},
	} {
		m, err := golang.Parse([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		} else if got := m.Release(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"no module line", "go 1.22", "no module line"},
		{"no Go version", "module x\ngo twelve", "go.mod"},
		{"a path that leads up", "module ../x\ngo 1.22", "cannot be"},
		{"a release that leads up", "module x\ngo 1.22\ntoolchain go1.99-../../x", "does not exist"},
		{"bytes", "\x00\x01", "cannot be read"},
	} {
		if _, err := golang.Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.what, err, c.want)
		}
	}
}

func TestMains(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for _, c := range []struct {
		what string
		tree fstest.MapFS
		want []string
		err  string
	}{
		{"the root", fstest.MapFS{"main.go": file("package main"), "cmd/x/main.go": file("package main")}, []string{"."}, ""},
		{"all of cmd", fstest.MapFS{"lib.go": file("package lib"), "cmd/b/main.go": file("package main"), "cmd/a/main.go": file("package main")}, []string{"./cmd/a", "./cmd/b"}, ""},
		{"a library in cmd is none", fstest.MapFS{"cmd/a/main.go": file("package main"), "cmd/internal/x.go": file("package internal")}, []string{"./cmd/a"}, ""},
		{"a script that is ignored is none", fstest.MapFS{"lib.go": file("package lib"), "gen.go": file("//go:build ignore\n\npackage main"), "cmd/a/main.go": file("package main")}, []string{"./cmd/a"}, ""},
		{"a test is none", fstest.MapFS{"x_test.go": file("package main")}, nil, "no program"},
		{"two packages in one directory", fstest.MapFS{"a.go": file("package main"), "b.go": file("package b")}, nil, "two packages"},
		{"a file that is no Go", fstest.MapFS{"a.go": file("hello")}, nil, "cannot be read as Go"},
	} {
		got, err := golang.Mains(c.tree)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want an error with %q", c.what, err, c.err)
			}
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, %v", c.what, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("module example.com/x\n\ngo 1.26\n\ntoolchain go1.26.8\n\nrequire a.b/c v1.0.0\n")
	f.Add("module x\ntoolchain go1.99-../x\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := golang.Parse([]byte(text))
		if err != nil {
			return
		}
		if m.Path == "" || strings.ContainsAny(m.Release(), " /\\\n\x00") || !strings.HasPrefix(m.Release(), "go") {
			t.Errorf("%q gives %+v and %q", text, m, m.Release())
		}
	})
}
