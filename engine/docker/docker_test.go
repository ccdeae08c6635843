package docker_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/build"
	"sampan.dev/sampan/engine/docker"
	"sampan.dev/sampan/internal/fault"
)

func TestListenTakesNoLivingServersSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "docker.sock")
	first, err := docker.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := docker.Listen(path); !fault.Is(err, fault.KindConflict) {
		t.Fatalf("the second server: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

func TestListenReplacesWhatADeadServerLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := docker.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestListenLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := docker.Listen(path); !fault.Is(err, fault.KindConflict) {
		t.Errorf("%v", err)
	}
	if raw, _ := os.ReadFile(path); string(raw) != "mine" {
		t.Errorf("the file is now %q", raw)
	}
}

// slow is a build that ends with its request's context, as all handlers must.

func (slow) Records(context.Context) ([]build.CacheRecord, error) { return nil, nil }

type slow struct {
	docker.BuildHandler
	begun, ended chan struct{}
}

func (s slow) Routes(add func(string, func(http.ResponseWriter, *http.Request) error)) {
	add("POST /build", func(_ http.ResponseWriter, r *http.Request) error {
		close(s.begun)
		<-r.Context().Done()
		close(s.ended)
		return r.Context().Err()
	})
}

func TestServeEndsItsRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := docker.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	build := slow{begun: make(chan struct{}), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- docker.New(docker.Config{Build: build}).Serve(ctx, l) }()
	client := http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
	}}
	go func() {
		if answer, err := client.Post("http://docker/v1.44/build", "application/x-tar", nil); err == nil {
			answer.Body.Close()
		}
	}()
	<-build.begun
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	select {
	case <-build.ended:
	default:
		t.Error("Serve returned before its handlers")
	}
}
