package sshd_test

import (
	"slices"
	"strings"
	"testing"

	"sampan.dev/sampan/forge/internal/sshd"
)

func TestSplit(t *testing.T) {
	cases := []struct {
		line string
		want []string // nil: refused
	}{
		{"git-upload-pack '/ann/hello.git'", []string{"git-upload-pack", "/ann/hello.git"}},
		{`git-upload-pack 'it'\''s'`, []string{"git-upload-pack", "it's"}},
		{`run "a b" c\ d`, []string{"run", "a b", "c d"}},
		{`run "a\"b\$c\d"`, []string{"run", `a"b$c\d`}},
		{"  one\t two \n", []string{"one", "two"}},
		{`echo $HOME *; rm -rf /`, []string{"echo", "$HOME", "*;", "rm", "-rf", "/"}},
		{`''`, []string{""}},
		{"a''b", []string{"ab"}},
		{"git-upload-pack 'open", nil},
		{`git-upload-pack "open`, nil},
		{`ends with \`, nil},
		{"a\x00b", nil},
		{strings.Repeat("x", 65<<10), nil},
	}
	for _, c := range cases {
		got, err := sshd.Split(c.line)
		if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("Split(%.40q) = %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("git-upload-pack '/ann/hello.git'")
	f.Add(`a "b\"" \c`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := sshd.Split(line)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := sshd.Split(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(words, again) {
			t.Fatalf("%q became %q, then %q (%v)", line, words, again, err)
		}
	})
}
