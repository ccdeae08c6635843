package procfile_test

import (
	"slices"
	"strings"
	"testing"

	"sampan.dev/sampan/build/internal/procfile"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"processes keep their order", "web: a\nworker: b c\n", "web=a worker=b c"},
		{"comments, empty lines and Windows line ends are ignored", "# x\r\n\r\nweb: a\r\n", "web=a"},
		{"a command may hold colons", "web: a http://b:1", "web=a http://b:1"},
		{"an empty file has none", "", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			all, err := procfile.Parse([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range all {
				got = append(got, p.Name+"="+p.Command)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"a line without a colon", "web: a\nfoo", "line 2"},
		{"a name with a slash", "a/b: c", "line 1"},
		{"a process without a command", "web:", "no command"},
		{"a name twice", "web: a\nweb: b", "line 2 names \"web\" again"},
		{"a zero byte", "web: a\x00b", "zero byte"},
		{"a huge file", strings.Repeat("#", 70<<10), "larger"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if _, err := procfile.Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		command string
		words   []string
		needs   string
	}{
		{"bin/web -x 1", []string{"bin/web", "-x", "1"}, ""},
		{`a 'b c' "d e"f ''`, []string{"a", "b c", "d ef", ""}, ""},
		{"a :$PORT", nil, "$"},
		{"a && b", nil, "&"},
		{"A=1 b", nil, "="},
		{"a 'b", nil, "'"},
		{"a --x=y", []string{"a", "--x=y"}, ""},
	} {
		words, needs := procfile.Process{Command: c.command}.Words()
		if needs != c.needs || !slices.Equal(words, c.words) {
			t.Errorf("%s: got %q, needs %q", c.command, words, needs)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("web: a 'b' \"c\"\n# x\nworker: d")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := procfile.Parse([]byte(text))
		if err != nil {
			return
		}
		for _, p := range all {
			if p.Name == "" || p.Command == "" || strings.ContainsAny(p.Command, "\x00\n") {
				t.Errorf("%q gives %+v", text, p)
			}
			p.Words()
		}
	})
}
