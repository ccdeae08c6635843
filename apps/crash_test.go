package apps_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const childEnv = "SAMPAN_TEST_CHILD"

// TestMain is the server itself in a child, which the crash test kills.
func TestMain(m *testing.M) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	w := &world{t: childTB{}}
	var in struct {
		Dir   string
		Ports map[string]string
	}
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	w.dir, w.ports = in.Dir, in.Ports
	w.start()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // until the test kills this, or ends
}

// childTB is what start needs of a test, for the child.
type childTB struct{ testing.TB }

func (childTB) Helper() {}
func (childTB) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}
func (childTB) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// A child is a server in a process of its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func (w *world) spawn(t *testing.T) *child {
	t.Helper()
	text, err := json.Marshal(map[string]any{"Dir": w.dir, "Ports": w.ports})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	t.Cleanup(func() {
		if t.Failed() {
			cmd.Process.Signal(syscall.SIGQUIT) // for its goroutines
			cmd.Wait()
			t.Logf("the server said:\n%s", stderr.String())
		}
	})
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "ready\n" {
		cmd.Wait()
		t.Fatalf("the server does not start again: %v\n%s", err, stderr.String())
	}
	return &child{cmd, stdin}
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.stdin.Close()
	c.cmd.Wait()
}

// try sends a request that may be cut off; ok is an acknowledgement.
func (w *world) try(method, host, path string, in any) (ok bool, body string) {
	text, _ := json.Marshal(in)
	req, err := http.NewRequest(method, "http://"+w.ports["http"]+path, bytes.NewReader(text))
	if err != nil {
		return false, ""
	}
	req.Host = host
	req.Header.Set("Authorization", "token "+w.ann)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, ""
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode < 300, string(out)
}

// A server that is killed at any moment loses nothing that it acknowledged, and what ran
// before runs on and is routed to again.
func TestKilledAtAnyMomentNothingAcknowledgedIsLost(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, "POST", "/v2/apps/", map[string]string{"id": "hello"}, nil)
	w.want(http.StatusOK, "POST", "/v2/apps/hello/source/", map[string]string{"repository": "ann/hello"}, nil)
	w.push(w.commit(app("build 0 ")))
	w.stop()
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	acked, built := 0, 0
	for round := range rounds {
		c := w.spawn(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := acked + 1; ; n++ {
				ok, _ := w.try("POST", "deis.localhost", "/v2/apps/hello/config/", map[string]any{"values": map[string]any{"SUFFIX": fmt.Sprint(n)}})
				if !ok {
					return
				}
				acked = n
			}
		}()
		sha := ""
		if round%2 == 1 {
			sha = w.commit(app(fmt.Sprintf("build %d ", round)))
			go w.try("POST", "localhost", "/push/"+sha, nil)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(700 * time.Millisecond)))) // the moment of death is the point
		c.kill()
		<-done

		c = w.spawn(t)
		if sha != "" { // the forge tells of a push until it has been heard
			ok, out := w.try("POST", "localhost", "/push/"+sha, nil)
			if ok {
				built = round
			}
			t.Logf("round %d: push %v %s", round, ok, lastLine(out))
		}
		w.settled(t)
		ok, body := w.try("GET", "hello.localhost", "/", nil)
		var build, suffix int
		fmt.Sscanf(body, "build %d %d", &build, &suffix)
		if !ok || suffix < acked || build < built {
			t.Errorf("round %d: after the kill the app answers %v %q; acknowledged were configuration %d and build %d", round, ok, body, acked, built)
		}
		acked = max(acked, suffix)
		c.kill()
	}
	t.Logf("%d rounds, %d configurations acknowledged, none lost", rounds, acked)
	w.start()
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// settled waits until no release is pending.
func (w *world) settled(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok, body := w.try("GET", "deis.localhost", "/v2/apps/hello/releases/", nil); ok && !strings.Contains(body, `"state":"pending"`) {
			return
		}
	}
	_, body := w.try("GET", "deis.localhost", "/v2/apps/hello/releases/?limit=3", nil)
	t.Fatalf("a release stays pending: %s", body)
}
