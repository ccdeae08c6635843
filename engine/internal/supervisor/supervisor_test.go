package supervisor_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/engine/internal/initbin/initbintest"
	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/logfile"
)

// A world has a sampan-init of its own and a root file system of busybox.
type world struct {
	testing.TB
	*supervisor.Client
	cfg     supervisor.Config
	dir     string
	rootfs  string
	filters spec.Filters
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	program := initbintest.Build(tb)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		tb.Skip("needs busybox (Debian: busybox-static)")
	}
	w := &world{TB: tb, dir: tb.TempDir()}
	w.rootfs = filepath.Join(w.dir, "rootfs")
	w.cfg = supervisor.Config{Dir: filepath.Join(w.dir, "init"), Init: program}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		w.must(os.MkdirAll(filepath.Join(w.rootfs, d), 0o755))
	}
	w.copy(busybox, "bin/busybox")
	for _, name := range []string{"sh", "true", "cat", "echo", "sleep", "id", "unshare", "ls", "stty", "grep", "dd", "kill", "mount", "head", "yes", "env", "pwd", "touch", "seq", "hostname"} {
		w.must(os.Symlink("busybox", filepath.Join(w.rootfs, "bin", name)))
	}
	w.must(os.WriteFile(filepath.Join(w.rootfs, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/:/bin/sh\n"), 0o644))
	w.must(os.WriteFile(filepath.Join(w.rootfs, "etc/group"), []byte("root:x:0:\nstaff:x:1001:\nwheel:x:10:ann\n"), 0o644))
	w.must(os.WriteFile(filepath.Join(w.rootfs, "etc/plain"), []byte("not a program\n"), 0o644))
	w.must(os.WriteFile(filepath.Join(w.rootfs, "etc/garbage"), []byte{1, 2, 3}, 0o755))
	w.connect()
	tb.Cleanup(w.end)
	return w
}

func (w *world) connect() {
	w.Helper()
	c, err := supervisor.Start(w.Context(), w.cfg)
	w.must(err)
	w.Client = c
}

// end leaves nothing behind.
func (w *world) end() {
	ctx := context.Background()
	all, err := w.List(ctx)
	if err != nil {
		w.Errorf("list: %v", err)
		return
	}
	for _, s := range all {
		if err := w.Delete(ctx, s.ID, true); err != nil {
			w.Errorf("delete: %v", err)
		}
	}
	if err := w.Shutdown(ctx); err != nil {
		w.Errorf("shut down: %v", err)
	}
	log, _ := os.ReadFile(filepath.Join(w.cfg.Dir, "sampan-init.log"))
	if bytes.Contains(log, []byte("DATA RACE")) || bytes.Contains(log, []byte("panic")) {
		w.Error("sampan-init has a bug")
	}
	if w.Failed() {
		w.Logf("sampan-init said:\n%s", log)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) copy(from, to string) {
	w.Helper()
	b, err := os.ReadFile(from)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.rootfs, to), b, 0o755))
}

// request describes a container that runs a shell script.
func (w *world) request(script string, change ...func(*spec.Options, *supervisor.Request)) supervisor.Request {
	w.Helper()
	id := "t" + strings.ToLower(rand.Text()[:10])
	o := spec.Options{ID: id, Rootfs: w.rootfs, Args: []string{"sh", "-c", script}, Hostname: "box"}
	r := supervisor.Request{ID: id, Log: supervisor.Log{Path: filepath.Join(w.dir, id+".log")}}
	for _, c := range change {
		c(&o, &r)
	}
	s, err := spec.Build(o)
	w.must(err)
	r.Spec = s
	if !o.Privileged {
		r.Seccomp, err = w.filters.Program(s.Process.Capabilities.Bounding)
		w.must(err)
	}
	return r
}

func (w *world) start(r supervisor.Request) string {
	w.Helper()
	w.must(w.Create(w.Context(), r))
	_, err := w.Start(w.Context(), r.ID)
	w.must(err)
	return r.ID
}

func (w *world) wait(id string) supervisor.Exit {
	w.Helper()
	e, err := w.Wait(w.Context(), id)
	w.must(err)
	return e
}

// run runs a script to its end and returns what it wrote.
func (w *world) run(script string, change ...func(*spec.Options, *supervisor.Request)) (string, supervisor.Exit) {
	w.Helper()
	r := w.request(script, change...)
	e := w.wait(w.start(r))
	return w.output(r), e
}

// output reads the log, all files of it.
func (w *world) output(r supervisor.Request) string {
	w.Helper()
	var text strings.Builder
	for _, suffix := range []string{".4", ".3", ".2", ".1", ""} {
		b, err := os.ReadFile(r.Log.Path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		w.must(err)
		for line := range bytes.Lines(b) {
			l, err := logfile.Parse(line)
			if err != nil {
				w.Fatalf("%q: %v", line, err)
			}
			text.Write(l.Text)
		}
	}
	return text.String()
}

// Exec runs a process to its end.
func (w *world) Exec(ctx context.Context, id string, p supervisor.Process, s supervisor.Streams) (supervisor.Exit, error) {
	_, wait, err := w.Client.Exec(ctx, id, p, s)
	if err != nil {
		return supervisor.Exit{}, err
	}
	return wait()
}

func (w *world) exec(id, script string) (string, int) {
	w.Helper()
	var out bytes.Buffer
	e, err := w.Exec(w.Context(), id, supervisor.Process{
		Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"},
	}, supervisor.Streams{Stdout: &out, Stderr: &out})
	w.must(err)
	return out.String(), e.Code
}

// until waits for a change of a container.
func (w *world) until(id string, what string, ok func(supervisor.Status) bool) supervisor.Status {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	var last supervisor.Status
	found := errors.New("found")
	look := func() {
		s, err := w.Status(ctx, id)
		w.must(err)
		if last = s; ok(s) {
			cancel()
		}
	}
	err := w.Events(ctx, look, func(e supervisor.Event) error {
		if e.Status.ID == id {
			if last = e.Status; ok(last) {
				return found
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, found) {
		w.Fatal(err)
	}
	if !ok(last) {
		w.Fatalf("no %s within 20 s: %+v", what, last)
	}
	return last
}

func TestProgramsEndWithTheirCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		does, script string
		code         int
		says         string
	}{
		{"a program that works", "echo hello; echo again >&2", 0, "hello\nagain\n"},
		{"a program that fails", "exit 7", 7, ""},
		{"a program whose child is killed", "sh -c 'kill -9 $$' 2>/dev/null; exit $?", 137, ""},
		{"a last line without its end", "printf abc", 0, "abc"},
		{"the hostname", "hostname", 0, "box\n"},
		{"nothing on standard input", "cat; echo end", 0, "end\n"},
	} {
		t.Run(c.does, func(t *testing.T) {
			out, exit := w.run(c.script)
			if exit.Code != c.code || len(out) != len(c.says) {
				t.Errorf("%q: code %d, %q; want %d, %q", c.script, exit.Code, out, c.code, c.says)
			}
		})
	}
}

func TestProgramsThatCannotBeExecuted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		program, says string
		code          int
	}{
		{"nowhere", "executable file not found in $PATH", 127},
		{"/bin/nowhere", "no such file or directory", 127},
		{"/etc/plain", "permission denied", 126},
		{"/etc/garbage", "exec format error", 126},
		{"/etc", "permission denied", 126},
	} {
		r := w.request("", func(o *spec.Options, _ *supervisor.Request) { o.Args = []string{c.program} })
		w.must(w.Create(t.Context(), r))
		_, err := w.Start(t.Context(), r.ID)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.program, err, c.says)
		}
		if e := w.wait(r.ID); e.Code != c.code {
			t.Errorf("%s: code %d, want %d", c.program, e.Code, c.code)
		}
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000"))
	if out, code := w.exec(id, "echo in; exit 3"); out != "in\n" || code != 3 {
		t.Errorf("got %q, %d", out, code)
	}
	var out bytes.Buffer
	e, err := w.Exec(t.Context(), id, supervisor.Process{Args: []string{"cat"}, Env: []string{"PATH=/bin"}},
		supervisor.Streams{Stdin: strings.NewReader(strings.Repeat("x", 300_000)), Stdout: &out})
	if err != nil || e.Code != 0 || out.Len() != 300_000 {
		t.Errorf("cat: %v %v, %d bytes", e, err, out.Len())
	}
	_, err = w.Exec(t.Context(), id, supervisor.Process{Args: []string{"nowhere"}}, supervisor.Streams{})
	if err == nil || !strings.Contains(err.Error(), "not found in $PATH") {
		t.Errorf("nowhere: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, wr := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := w.Exec(ctx, id, supervisor.Process{Args: []string{"sh", "-c", "echo $$; exec sleep 1000"}, Env: []string{"PATH=/bin"}},
			supervisor.Streams{Stdout: wr})
		done <- err
	}()
	pid := make([]byte, 16)
	n, _ := r.Read(pid)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled exec: %v", err)
	}
	if _, code := w.exec(id, "while kill -0 "+strings.TrimSpace(string(pid[:n]))+" 2>/dev/null; do :; done"); code != 0 {
		t.Errorf("the process outlived its caller")
	}
}

// A detached process goes on without its caller, and its end is told.
func TestDetachedExec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000"))
	ready, ended := make(chan struct{}), make(chan supervisor.Event, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go w.Events(ctx, func() { close(ready) }, func(e supervisor.Event) error {
		if e.Action == supervisor.OnExecDie {
			ended <- e
		}
		return nil
	})
	<-ready
	pid, _, err := w.Client.Exec(t.Context(), id, supervisor.Process{
		ID: "one", Args: []string{"sh", "-c", "seq 1 100000; until test -e /tmp/go; do sleep 0.01; done; exit 7"}, Env: []string{"PATH=/bin"}, Detached: true,
	}, supervisor.Streams{})
	w.must(err)
	pids, err := w.Pids(t.Context(), id)
	if err != nil || !slices.Contains(pids, pid) {
		t.Errorf("process %d is not one of %v, %v", pid, pids, err)
	}
	w.exec(id, "touch /tmp/go")
	if e := <-ended; e.Exec != "one" || e.Code != 7 || e.Status.ID != id {
		t.Errorf("its end is told as %+v", e)
	}
}
