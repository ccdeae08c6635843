package build_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/build"
	"sampan.dev/sampan/internal/fault"
)

// tree writes files into a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// script is a Node package whose build script is a shell line.
func script(t *testing.T, line string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"engines": map[string]string{"node": ">=20"},
		"scripts": map[string]string{"build": line, "start": "node server.js"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, map[string]string{"package.json": string(text), "server.js": ""})
}

// TestHostileScripts runs build scripts that want out, or more than their share.
func TestHostileScripts(t *testing.T) {
	p := inContainers(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the server's"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // like a store that trusts its callers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		what, line, want string
		limits           build.Limits
	}{
		{"a file of the server does not exist", "cat " + secret + " && exit 0 || exit 7", "exit code 7", build.Limits{}},
		{"the loopback is not the server's", "exec 3<>/dev/tcp/127.0.0.1/" + port + " && exit 0 || exit 7", "exit code 7", build.Limits{}},
		{"it is not root", "test $(id -u) != 0 && exit 7", "exit code 7", build.Limits{}},
		{"it cannot mount", "mount -t tmpfs x /tmp || exit 7", "exit code 7", build.Limits{}},
		{"memory ends", "node -e 'a=[];while(1)a.push(Buffer.alloc(1e7,1))'", "memory", build.Limits{Memory: 256 << 20}},
		{"processes end", `node -e 'for(let i=0;i<300;i++)require("child_process").spawn("sleep",["100"])'`, "failed", build.Limits{Pids: 100}},
		{"time ends", "sleep 1000", "longer than 3s", build.Limits{Time: 3 * time.Second}},
		{"output ends", "yes | head -c 2000000; exit 7", "exit code 7", build.Limits{Output: 10_000}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var out bytes.Buffer
			_, err := p.builder.Build(t.Context(), build.Request{
				Cache: p.scope(t), Tree: script(t, "bash -c '"+strings.ReplaceAll(c.line, "'", `'\''`)+"'"), Commit: "c", Time: commit,
				Name: "sampan.local/test/hostile", Output: &out, Limits: c.limits,
			})
			if out.Len() > 50_000 {
				t.Errorf("%d bytes of output", out.Len())
			} else {
				t.Log(out.String())
			}
			if f, ok := fault.Of(err); !ok || !strings.Contains(f.Message, c.want) {
				t.Errorf("got %v, want a fault with %q", err, c.want)
			}
		})
	}
}

// TestHostileScriptsOnHost: there is no isolation there, but the keys of a server of root's
// are not for whoever may push.
func TestHostileScriptsOnHost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("builds run as whoever the server runs as")
	}
	p := onHost(t)
	secret := filepath.Join(t.TempDir(), "secret.key")
	must(t, os.WriteFile(secret, []byte("the server's"), 0o600))
	for what, line := range map[string]string{
		"a secret of the server cannot be read": "cat " + secret + " && exit 0 || exit 7",
		"it is not root":                        "test $(id -u) != 0 -a $(id -g) != 0 && exit 7",
		"it has no groups of root's":            "test $(id -G) = $(id -g) && exit 7",
		"its own files can be written":          "echo 1 >made && mkdir -p a/b && exit 7",
	} {
		t.Run(what, func(t *testing.T) {
			_, err := p.builder.Build(t.Context(), build.Request{
				Cache: p.scope(t), Tree: script(t, "bash -c '"+line+"'"), Commit: "c", Time: commit, Name: "sampan.local/test/hostile",
			})
			if f, ok := fault.Of(err); !ok || !strings.Contains(f.Message, "exit code 7") {
				t.Errorf("got %v, want exit code 7", err)
			}
		})
	}
}

// TestHostileTrees holds for every builder, so the host's suffices.
func TestHostileTrees(t *testing.T) {
	p := onHost(t)
	for _, c := range []struct {
		what   string
		make   func(t *testing.T) string
		limits build.Limits
		want   string
	}{
		{"nothing to build", func(t *testing.T) string { return tree(t, map[string]string{"x": ""}) }, build.Limits{}, "nothing here can be built"},
		{"a go.mod that leads out of the tree", func(t *testing.T) string {
			dir := tree(t, map[string]string{"index.html": ""})
			must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "go.mod")))
			must(t, os.Remove(filepath.Join(dir, "index.html")))
			return dir
		}, build.Limits{}, "nothing here can be built"},
		{"more than a build may bring", func(t *testing.T) string {
			return tree(t, map[string]string{"index.html": strings.Repeat("x", 2000)})
		}, build.Limits{Source: 1000}, "larger than a build may bring"},
		{"a pipe", func(t *testing.T) string {
			dir := tree(t, map[string]string{"index.html": ""})
			must(t, mkfifo(filepath.Join(dir, "pipe")))
			return dir
		}, build.Limits{}, "neither a file"},
		{"a huge Procfile", func(t *testing.T) string {
			return tree(t, map[string]string{"index.html": "", "Procfile": strings.Repeat("#", 100_000)})
		}, build.Limits{}, "Procfile is larger"},
		{"a broken go.mod", func(t *testing.T) string { return tree(t, map[string]string{"go.mod": "modul x\x00"}) }, build.Limits{}, "go.mod"},
		{"a broken package.json", func(t *testing.T) string { return tree(t, map[string]string{"package.json": "{"}) }, build.Limits{}, "package.json"},
		{"no lockfile", func(t *testing.T) string {
			return tree(t, map[string]string{"package.json": `{"dependencies":{"express":"5"},"scripts":{"start":"node ."}}`})
		}, build.Limits{}, "package-lock.json is missing"},
		{"no program", func(t *testing.T) string {
			return tree(t, map[string]string{"go.mod": "module x\n", "x.go": "package x\n"})
		}, build.Limits{}, "no program"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := p.builder.Build(t.Context(), build.Request{
				Cache: p.scope(t), Tree: c.make(t), Commit: "c", Time: commit, Name: "sampan.local/test/hostile", Limits: c.limits,
			})
			if f, ok := fault.Of(err); !ok || !strings.Contains(f.Message, c.want) {
				t.Errorf("got %v, want a fault with %q", err, c.want)
			}
		})
	}
}

// TestLinksOutOfTheSite are packed as links and never followed by us.
func TestLinksOutOfTheSite(t *testing.T) {
	p := onHost(t)
	dir := tree(t, map[string]string{"index.html": "x"})
	must(t, os.Symlink("/etc", filepath.Join(dir, "etc")))
	r, _, err := p.build(t, dir, p.scope(t), "c")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(r.Dir, "site/etc")); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("got %v, %v", info, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
