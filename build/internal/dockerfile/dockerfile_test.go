package dockerfile_test

import (
	"slices"
	"strings"
	"testing"

	"sampan.dev/sampan/build/internal/dockerfile"
)

func TestReferences(t *testing.T) {
	for _, c := range []struct{ what, text, want string }{
		{"short names become full", "FROM debian", "docker.io/library/debian:latest"},
		{"a stage is no image", "FROM a AS x\nFROM x\nCOPY --from=x /a /b\nCOPY --from=0 /a /b", "docker.io/library/a:latest"},
		{"scratch is no image", "FROM scratch", ""},
		{"arguments before FROM count", "ARG V=12\nFROM debian:${V}-slim", "docker.io/library/debian:12-slim"},
		{"settings of the app replace them", "ARG GIVEN=1\nFROM debian:$GIVEN", "docker.io/library/debian:2"},
		{"copies and mounts name images, too", "FROM a\nCOPY --from=b:1 /x /y\nRUN --mount=from=c:2,target=/c true", "docker.io/library/a:latest docker.io/library/b:1 docker.io/library/c:2"},
		{"each once", "FROM a\nFROM a:latest", "docker.io/library/a:latest"},
		{"what cannot be read is BuildKit's to complain about", "FROM a\nBOGUS", ""},
	} {
		got := dockerfile.References([]byte(c.text), map[string]string{"GIVEN": "2"})
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q", c.what, got)
		}
	}
}

func FuzzReferences(f *testing.F) {
	f.Add("# syntax=x\nARG A=b\nFROM --platform=$B a:$A AS x\nCOPY --from=x a b\nRUN <<E\nx\nE\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := dockerfile.References([]byte(text), nil)
		if slices.Contains(got, "") {
			t.Errorf("%q gives %q", text, got)
		}
	})
}

func TestImagesOfOtherBuildsAreForeign(t *testing.T) {
	for _, c := range []struct {
		own, ref string
		foreign  bool
	}{
		{"sampan/shop:1", "docker.io/sampan/hello:2", true},
		{"sampan/shop:1", "docker.io/sampan/hello@sha256:" + strings.Repeat("a", 64), true},
		{"sampan/shop:1", "docker.io/sampan/shop:0", false},
		{"sampan/shop:1", "docker.io/library/debian:12", false},
		{"sampan/shop:1", "registry.example.com/sampan/hello:2", false},
		{"shop", "docker.io/library/debian:12", false},
	} {
		if got := dockerfile.Foreign(c.own, c.ref); got != c.foreign {
			t.Errorf("for %s, that %s is another build's is %v", c.own, c.ref, got)
		}
	}
}
