package build_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sampan.dev/sampan/build"
	"sampan.dev/sampan/engine"
)

// fetch starts a result's web process and returns what it answers to GET /.
func (p place) fetch(t *testing.T, r build.Result) string {
	t.Helper()
	if p.engine == nil {
		return get(t, startProcess(t, r))
	}
	return get(t, startContainer(t, p.engine, r))
}

func startContainer(t *testing.T, e *engine.Engine, r build.Result) (address string) {
	t.Helper()
	c, err := e.Create(t.Context(), engine.Spec{Image: r.Image, Entrypoint: r.Processes["web"], Env: append(r.Env, "PORT=8080")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = e.Logs(context.WithoutCancel(t.Context()), c.ID, engine.LogOptions{}, func(l engine.Line) error {
				t.Log(l.Text)
				return nil
			})
		}
		if err := e.Remove(context.WithoutCancel(t.Context()), c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	})
	if err := e.Start(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if c, err = e.Container(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(c.IP, "8080")
}

func startProcess(t *testing.T, r build.Result) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	argv := r.Processes["web"]
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = r.Dir, append(append(os.Environ(), r.Env...), "PORT="+strconv.Itoa(port))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // npm has children
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// get asks until the app listens, which nothing tells us.
func get(t *testing.T, address string) string {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		res, err := http.Get("http://" + address + "/")
		if err == nil {
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%s: %v", res.Status, err)
			}
			return string(text)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
