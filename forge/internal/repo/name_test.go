package repo_test

import (
	"strings"
	"testing"

	"sampan.dev/sampan/forge/internal/repo"
)

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"hello": true, "hello-go": true, "a.b_c": true, "X": true, "1": true, strings.Repeat("a", 100): true,
		"": false, ".": false, "..": false, "a..b": false, ".git": false, "-x": false, "a/b": false, "a b": false, "a\x00": false,
		"x.git": false, "x.GIT": false, "x.lock": false, "x.": false, "ü": false, strings.Repeat("a", 101): false, "a\n": false,
	} {
		if err := repo.CheckName(name); (err == nil) != good {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	cases := []struct{ path, owner, name string }{ // an empty name: refused
		{"/ann/hello.git", "ann", "hello"},
		{"ann/hello", "ann", "hello"},
		{"/ann/hello/", "ann", "hello"},
		{"/app.git", "", "app"},
		{"app", "", "app"},
		{"", "", ""},
		{"/", "", ""},
		{"//hello", "", ""},
		{"/ann/", "", "ann"},
		{"/ann/../bob/x", "", ""},
		{"../x", "", ""},
		{"/ann/hello/more", "", ""},
		{"~ann/hello", "", ""},
		{"/ann/.git", "", ""},
		{"-x/y", "", ""},
		{"ann/hello\x00.git", "", ""},
	}
	for _, c := range cases {
		owner, name, err := repo.ParsePath(c.path)
		if (err == nil) != (c.name != "") || owner != c.owner || name != c.name {
			t.Errorf("ParsePath(%q) = %q, %q, %v", c.path, owner, name, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/ann/hello.git", "app", "../..", "a/b/c", "a/.git"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		owner, name, err := repo.ParsePath(path)
		if err != nil {
			return
		}
		for _, part := range []string{owner, name} {
			if strings.ContainsAny(part, "/\\\x00\n ~'\"") || strings.HasPrefix(part, ".") || strings.HasPrefix(part, "-") || strings.Contains(part, "..") {
				t.Fatalf("%q became %q and %q", path, owner, name)
			}
		}
		if name == "" {
			t.Fatalf("%q became nothing", path)
		}
	})
}
