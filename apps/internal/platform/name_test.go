package platform_test

import (
	"strings"
	"testing"

	"sampan.dev/sampan/apps/internal/platform"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"hello": true, "a": true, "a-1": true, strings.Repeat("a", 63): true,
		"": false, "Hello": false, "1a": false, "a-": false, "-a": false, "a_b": false, "a.b": false, "../a": false,
		strings.Repeat("a", 64): false, "deis": false, "deis-builder": false,
	} {
		if err := platform.CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCheckDomain(t *testing.T) {
	for text, want := range map[string]string{
		"Example.ORG": "example.org", "a.b.example.org.": "a.b.example.org", "*.example.org": "*.example.org",
		"bücher.example": "xn--bcher-kva.example", "myapp": "myapp",
		"*": "", "*.org": "", "a b.org": "", "": "", "-a.org": "", "a..b": "", "10.0.0.1": "", "a.org/x": "", "a.org:80": "", "a.*.org": "",
	} {
		got, err := platform.CheckDomain(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is the host %q, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzCheckDomain(f *testing.F) {
	f.Add("*.bücher.example.")
	f.Fuzz(func(t *testing.T, text string) {
		host, err := platform.CheckDomain(text)
		if err != nil {
			return
		}
		if again, err := platform.CheckDomain(host); err != nil || again != host {
			t.Errorf("%q is %q, which is %q, %v", text, host, again, err)
		}
	})
}

func TestImagesOfOtherAppsAreNotTaken(t *testing.T) {
	for image, ok := range map[string]bool{
		"busybox": true, "registry.example.com/sampan/hello": true, "docker.io/sampan/shop:1": true, "sampan/shop": true,
		"sampan/hello": false, "docker.io/sampan/hello:1": false, "index.docker.io/sampan/hello": false,
		"sampan/hello@sha256:" + strings.Repeat("a", 64): false, "Hello": false, "../x": false, "": false,
	} {
		if err := platform.CheckImage("shop", image); (err == nil) != ok {
			t.Errorf("%q: %v", image, err)
		}
	}
}
