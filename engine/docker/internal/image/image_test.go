package image

import (
	"slices"
	"testing"

	types "github.com/moby/moby/api/types/image"

	"sampan.dev/sampan/engine/docker/internal/api"
)

func TestNamed(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	cases := []struct {
		name, tag, want string
		ok              bool
	}{
		{"box", "1", "docker.io/library/box:1", true},
		{"box", "", "box", true},
		{"box:", "1", "docker.io/library/box:1", true},
		{"box:2", "1", "docker.io/library/box:1", true},
		{"localhost:5000/a/b", "1", "localhost:5000/a/b:1", true},
		{"box", digest, "docker.io/library/box@" + digest, true},
		{"", "", "", true},
		{"BOX", "1", "", false},
		{"box", "-", "", false},
	}
	for _, c := range cases {
		got, err := named(c.name, c.tag)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s %s: %s, %v", c.name, c.tag, got, err)
		}
	}
}

func TestReferences(t *testing.T) {
	names := []string{"box:1", "box:2", "other/box:1", "example.com/x/y:1"}
	cases := []struct {
		pattern string
		want    []string
	}{
		{"box", []string{"box:1", "box:2"}},
		{"box:1", []string{"box:1"}},
		{"docker.io/library/box:2", []string{"box:2"}},
		{"*/box", []string{"other/box:1"}},
		{"*/*/*", []string{"example.com/x/y:1"}},
		{"nothing", []string{}},
	}
	for _, c := range cases {
		f := api.Filters{"reference": {c.pattern: true}}
		if got := matching(f, names); !slices.Equal(got, c.want) {
			// docker.io/NAME/NAME has three parts as well
			if c.pattern != "*/*/*" || !slices.Contains(got, c.want[0]) {
				t.Errorf("%s: %v", c.pattern, got)
			}
		}
	}
	one := types.Summary{RepoTags: names[:1], RepoDigests: []string{"box@sha256:1", "other/box@sha256:1"}}
	if got := ofMatching(api.Filters{"reference": {"box": true}}, one); !slices.Equal(got, []string{"box@sha256:1"}) {
		t.Errorf("%v", got)
	}
}
