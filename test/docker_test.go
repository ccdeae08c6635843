//go:build linux

package test_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Stories told with Docker's own client. That they tell how Docker behaves, and not only how we
// do, shows a run with another daemon: SAMPAN_PEER=unix:///var/run/docker.sock.
func TestDocker(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Fatal("install Debian's package docker.io, or Docker's own client: make setup does it")
	}
	files, err := filepath.Glob("testdata/docker/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	box, err := box()
	if err != nil {
		t.Fatal(err)
	}
	plugins, err := filepath.Abs("../.cache/test/docker") // scripts/clients has put them there
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(files, func(env *testscript.Env) error {
		env.Setenv("N", strings.ToLower(rand.Text()[:8])) // scripts share a peer's names
		env.Setenv("BOX", "box"+env.Getenv("N"))
		host := os.Getenv("SAMPAN_PEER")
		if host == "" {
			if err := setup(env); err != nil {
				return err
			}
			m := env.Values[machineKey{}].(*machine)
			if err := m.start(os.Environ()); err != nil {
				return err
			}
			host = "unix://" + filepath.Join(m.data, "run", "docker.sock")
		}
		env.Setenv("DOCKER_HOST", host)
		env.Setenv("DOCKER_CONFIG", plugins)
		if err := os.WriteFile(filepath.Join(env.WorkDir, "rootfs.tar"), box, 0o600); err != nil {
			return err
		}
		cmd := exec.Command("docker", "import", "-c", `CMD ["sh"]`, "-c", "ENV PATH=/bin", "-", env.Getenv("BOX"))
		cmd.Env, cmd.Stdin = append(os.Environ(), "DOCKER_HOST="+host), bytes.NewReader(box)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("docker import: %w\n%s", err, out)
		}
		if os.Getenv("SAMPAN_PEER") != "" {
			env.Defer(func() { tidy(env) })
		}
		return nil
	}))
}

// tidy removes from a daemon that is not ours what a script left.
func tidy(env *testscript.Env) {
	n := env.Getenv("N")
	script := `docker rm -fv $(docker ps -aq --filter label=test=` + n + `); docker network rm $(docker network ls -q --filter name=` + n + `)
docker volume rm $(docker volume ls -q --filter name=` + n + `); docker rmi -f $(docker images -q --filter reference=*` + n + `*)`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+env.Getenv("DOCKER_HOST"))
	_ = cmd.Run() // most of it is gone
}

// box is a root file system of busybox, as a tar archive.
func box() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, mode int64, text string) {
		if strings.HasSuffix(name, "/") {
			w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode})
			return
		}
		w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))})
		io.WriteString(w, text)
	}
	add("bin/", 0o755, "")
	add("tmp/", 0o1777, "")
	add("etc/", 0o755, "")
	add("seed/", 0o750, "")
	add("bin/busybox", 0o755, string(program))
	add("etc/passwd", 0o644, "root:x:0:0::/:/bin/sh\nann:x:1000:1001::/:/bin/sh\n")
	add("etc/group", 0o644, "root:x:0:\nann:x:1001:\nmore:x:2000:\n")
	add("seed/file", 0o640, "from the image\n")
	for name := range strings.Lines(string(applets)) {
		if name = strings.TrimSpace(name); name != "busybox" {
			w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
		}
	}
	return b.Bytes(), w.Close()
}
