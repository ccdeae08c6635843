package supervisor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/internal/fault"
)

func TestStopAsksFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"))
	w.untilOutput(id, "ready")
	e, err := w.Stop(t.Context(), id, 10*time.Second)
	if err != nil || e.Code != 5 {
		t.Errorf("a polite program: %+v, %v", e, err)
	}
	id = w.start(w.request("trap '' TERM; echo ready; while :; do sleep 0.01; done"))
	w.untilOutput(id, "ready")
	e, err = w.Stop(t.Context(), id, 20*time.Millisecond)
	if err != nil || e.Code != 137 {
		t.Errorf("a deaf program: %+v, %v", e, err)
	}
}

// untilOutput waits for a word in the log, by the log's own growth.
func (w *world) untilOutput(id, word string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		b, _ := os.ReadFile(filepath.Join(w.dir, id+".log"))
		if strings.Contains(string(b), word) {
			return
		}
		if _, err := w.Status(ctx, id); err != nil { // a call is a pause, too
			break
		}
	}
	w.Fatalf("%q was never written", word)
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		does     string
		restart  supervisor.Restart
		script   string
		restarts int
		code     int
	}{
		{"no: a failure stays", supervisor.Restart{}, "exit 1", 0, 1},
		{"on-failure: tries as often as allowed", supervisor.Restart{Policy: supervisor.RestartOnFailure, Max: 2}, "exit 4", 2, 4},
		{"on-failure: a success stays", supervisor.Restart{Policy: supervisor.RestartOnFailure}, "exit 0", 0, 0},
	} {
		t.Run(c.does, func(t *testing.T) {
			id := w.start(w.request(c.script, func(_ *spec.Options, r *supervisor.Request) { r.Restart = c.restart }))
			s := w.until(id, "end", func(s supervisor.Status) bool {
				return s.State == supervisor.Exited && s.Restarts == c.restarts
			})
			if s.Exit.Code != c.code {
				t.Errorf("got %+v", s)
			}
		})
	}
	t.Run("always: until it is stopped", func(t *testing.T) {
		id := w.start(w.request("exit 0", func(_ *spec.Options, r *supervisor.Request) {
			r.Restart.Policy = supervisor.RestartAlways
		}))
		w.until(id, "second restart", func(s supervisor.Status) bool { return s.Restarts >= 2 })
		_, err := w.Stop(t.Context(), id, 0)
		w.must(err)
		if s, _ := w.Status(t.Context(), id); s.State != supervisor.Exited || !s.Stopped {
			t.Errorf("got %+v", s)
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("touch /tmp/well; sleep 1000", func(_ *spec.Options, r *supervisor.Request) {
		r.Health = &supervisor.Health{Command: []string{"sh", "-c", "echo looking; ls /tmp/well"}, Interval: 20 * time.Millisecond, Retries: 2}
	}))
	s := w.until(id, "health", func(s supervisor.Status) bool { return s.Health != nil && s.Health.Status == supervisor.IsHealthy })
	if got := s.Health.Checks[0].Output; !strings.Contains(got, "looking") {
		t.Errorf("the check said %q", got)
	}
	w.exec(id, "rm /tmp/well || busybox rm /tmp/well")
	w.until(id, "illness", func(s supervisor.Status) bool { return s.Health != nil && s.Health.Status == supervisor.Unhealthy })
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	limit := func(o *spec.Options, _ *supervisor.Request) { o.Limits.Memory = 64 << 20 }
	_, exit := w.run("exec dd if=/dev/zero of=/dev/null bs=200M count=1", limit)
	if exit.Code != 137 || !exit.OOM {
		t.Errorf("a program that eats its limit: %+v", exit)
	}
	id := w.start(w.request("dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000", limit))
	w.until(id, "kill", func(s supervisor.Status) bool { return s.OOMs == 1 && s.State == supervisor.Running })
	stats, err := w.Stats(t.Context(), id)
	if err != nil || stats.MemoryLimit != 64<<20 || stats.OOMKills != 1 || stats.Memory == 0 || stats.Pids == 0 {
		t.Errorf("got %+v, %v", stats, err)
	}
}

func TestPidsLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out, _ := w.run("for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done 2>&1; wait", func(o *spec.Options, _ *supervisor.Request) { o.Limits.Pids = 4 })
	if !strings.Contains(out, "fork") {
		t.Errorf("nine processes in four: %q", out)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000", func(o *spec.Options, _ *supervisor.Request) { o.Limits.Memory = 64 << 20 }))
	r, err := spec.Resources(spec.Limits{Memory: 96 << 20, Pids: 7})
	w.must(err)
	w.must(w.Update(t.Context(), id, supervisor.Update{Resources: r}))
	s, err := w.Stats(t.Context(), id)
	if err != nil || s.MemoryLimit != 96<<20 || s.PidsLimit != 7 {
		t.Errorf("got %+v, %v", s, err)
	}
	if out, _ := w.exec(id, "head -c 1 /dev/null && echo ok"); out != "ok\n" {
		t.Errorf("devices after an update: %q", out)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000"))
	w.must(w.Pause(t.Context(), id))
	if s, _ := w.Status(t.Context(), id); s.State != supervisor.Paused {
		t.Errorf("got %+v", s)
	}
	_, err := w.Exec(t.Context(), id, supervisor.Process{Args: []string{"true"}}, supervisor.Streams{})
	if !fault.Is(err, fault.KindConflict) {
		t.Errorf("exec in a paused container: %v", err)
	}
	w.must(w.Resume(t.Context(), id))
	if _, code := w.exec(id, "true"); code != 0 {
		t.Error("exec after resume failed")
	}
	w.must(w.Pause(t.Context(), id))
	if e, err := w.Stop(t.Context(), id, 0); err != nil || e.Code != 137 {
		t.Errorf("stop of a paused container: %+v, %v", e, err)
	}
}

func TestPrepareHoldsTheProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("echo ran")
	w.must(w.Create(t.Context(), r))
	pid, err := w.Prepare(t.Context(), r.ID)
	w.must(err)
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
		t.Error(err)
	}
	if out := w.output(r); out != "" {
		t.Errorf("it wrote %q before its start", out)
	}
	_, err = w.Start(t.Context(), r.ID)
	w.must(err)
	w.wait(r.ID)
	if out := w.output(r); out != "ran\n" {
		t.Errorf("it wrote %q", out)
	}
	r = w.request("echo ran")
	w.must(w.Create(t.Context(), r))
	_, err = w.Prepare(t.Context(), r.ID)
	w.must(err)
	w.must(w.Delete(t.Context(), r.ID, true))
}

func TestMistakesAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000"))
	ctx := t.Context()
	for _, c := range []struct {
		does string
		err  error
		kind fault.Kind
	}{
		{"starting what runs", second(w.Start(ctx, id)), fault.KindConflict},
		{"deleting what runs", w.Delete(ctx, id, false), fault.KindConflict},
		{"starting what is not", second(w.Start(ctx, "nobody")), fault.KindNotFound},
		{"a signal that is not", w.Kill(ctx, id, 99), fault.KindInvalid},
		{"an ID that leads away", w.Create(ctx, supervisor.Request{ID: "../x"}), fault.KindInvalid},
		{"no configuration", w.Create(ctx, supervisor.Request{ID: "x"}), fault.KindInvalid},
		{"resuming what runs", w.Resume(ctx, id), fault.KindConflict},
		{"resizing without a terminal", w.Resize(ctx, id, supervisor.Size{Columns: 1, Rows: 1}), fault.KindConflict},
		{"shutting down", w.Shutdown(ctx), fault.KindConflict},
	} {
		if !fault.Is(c.err, c.kind) {
			t.Errorf("%s: %v", c.does, c.err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A daemon that is killed costs nobody a container, a line or an exit.
func TestTheNextDaemonTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	script := "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 9"
	r := w.request(script)
	w.start(r)
	idle := w.start(w.request("sleep 1000"))
	ended := w.start(w.request("exit 6"))
	w.wait(ended)
	w.untilOutput(r.ID, "line 10")
	w.must(syscall.Kill(w.Pid(), syscall.SIGKILL))
	w.connectAgain()
	if e := w.wait(r.ID); e.Code != 9 && e.Code != 255 {
		t.Errorf("the exit: %+v", e)
	}
	var want strings.Builder
	for i := range 200 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if got := w.output(r); got != want.String() {
		t.Errorf("the log has %d bytes, want %d", len(got), want.Len())
	}
	if e := w.wait(ended); e.Code != 6 {
		t.Errorf("an exit before: %+v", e)
	}
	if out, code := w.exec(idle, "echo here"); out != "here\n" || code != 0 {
		t.Errorf("exec in an adopted container: %q %d", out, code)
	}
	if e, err := w.Stop(t.Context(), idle, 0); err != nil || e.Code != 137 && e.Code != 255 {
		t.Errorf("stop of an adopted container: %+v, %v", e, err)
	}
	_, err := w.Start(t.Context(), idle)
	w.must(err)
}

func (w *world) connectAgain() {
	w.Helper()
	was := w.Pid()
	for w.Pid() == was {
		w.connect()
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("true")
	w.wait(w.start(r))
	w.must(w.Delete(t.Context(), r.ID, false))
	for _, pattern := range []string{
		filepath.Join(w.cfg.Dir, "containers", "*"), filepath.Join(w.cfg.Dir, "runtime", "*"),
		"/sys/fs/cgroup/*/sampan/*/" + r.ID, "/sys/fs/cgroup/sampan/*/" + r.ID,
	} {
		if left, _ := filepath.Glob(pattern); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// What a power loss left half-written is forgotten, and its name is free again.
func TestASpoiledRequestIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("sleep 1000")
	w.start(r)
	w.must(os.Truncate(filepath.Join(w.cfg.Dir, "containers", r.ID, "request.json"), 0))
	w.must(syscall.Kill(w.Pid(), syscall.SIGKILL))
	w.connectAgain()
	if _, err := w.Status(t.Context(), r.ID); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("got %v", err)
	}
	w.start(r)
}

// A newer program takes over when that disturbs nobody.
func TestAnotherProgramReplacesAnIdleOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, err := os.ReadFile(w.cfg.Init)
	w.must(err)
	w.cfg.Init = filepath.Join(w.dir, "newer")
	w.must(os.WriteFile(w.cfg.Init, b, 0o700))
	id := w.start(w.request("sleep 1000"))
	was := w.Pid()
	w.connect()
	if w.Pid() != was {
		t.Error("it was replaced while a container ran")
	}
	_, err = w.Stop(t.Context(), id, 0)
	w.must(err)
	w.connect()
	if w.Pid() == was {
		t.Error("it was not replaced")
	}
	if s, err := w.Status(t.Context(), id); err != nil || s.State != supervisor.Exited || s.Exit.Code != 137 {
		t.Errorf("the next one knows %+v, %v", s, err)
	}
}

// A stop that comes between two runs is the end.
func TestStopBetweenTwoRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("exit 1", func(_ *spec.Options, r *supervisor.Request) { r.Restart.Policy = supervisor.RestartAlways }))
	for range 5 {
		w.until(id, "pause", func(s supervisor.Status) bool { return s.State == supervisor.Restarting })
		_, err := w.Stop(t.Context(), id, time.Second)
		w.must(err)
		w.until(id, "end", func(s supervisor.Status) bool { return s.State == supervisor.Exited && s.Stopped })
		_, err = w.Start(t.Context(), id)
		w.must(err)
	}
}

func TestInitReapsAndPassesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	withInit := func(_ *spec.Options, r *supervisor.Request) { r.Init = true }
	id := w.start(w.request("trap 'exit 7' TERM; (sleep 0.01 &); echo ready; while :; do sleep 0.01; done", withInit))
	w.untilOutput(id, "ready")
	if out, _ := w.exec(id, "cat /proc/1/comm; while grep -q '^State.*zombie' /proc/[0-9]*/status; do :; done; grep Seccomp: /proc/1/status"); !strings.HasPrefix(out, "init\n") || !strings.Contains(out, "2") {
		t.Errorf("process 1 is %q", out)
	}
	if e, err := w.Stop(t.Context(), id, 10*time.Second); err != nil || e.Code != 7 {
		t.Errorf("got %+v, %v", e, err)
	}
	r := w.request("", withInit, func(o *spec.Options, _ *supervisor.Request) { o.Args = []string{"nowhere"} })
	w.must(w.Create(t.Context(), r))
	if _, err := w.Start(t.Context(), r.ID); err == nil || !strings.Contains(err.Error(), "not found in $PATH") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// What the options of package spec say is what a program finds.
func TestOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		does, script, want string
		change             func(o *spec.Options)
	}{
		{"a read-only root", "touch /x 2>&1; touch /tmp/x && echo tmp", "touch: /x: Read-only file system\ntmp\n", func(o *spec.Options) {
			o.ReadOnly = true
			o.Mounts = []specs.Mount{{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777", "size=1m"}}}
		}},
		{"a bind mount", "cat /etc/name", "from outside", func(o *spec.Options) {
			path := filepath.Join(w.dir, "name")
			w.must(os.WriteFile(path, []byte("from outside"), 0o644))
			o.Mounts = []specs.Mount{{Destination: "/etc/name", Type: "bind", Source: path, Options: []string{"rbind", "ro"}}}
		}},
		{"a directory", "pwd", "/tmp\n", func(o *spec.Options) { o.Cwd = "/tmp" }},
		{"the environment", "echo $A $PATH $HOME", "b c " + spec.DefaultPath + " /root\n", func(o *spec.Options) { o.Env = []string{"A=b c"} }},
		{"fewer open files", "ulimit -n", "77\n", func(o *spec.Options) { o.Limits.Ulimits = []spec.Ulimit{{Name: "nofile", Soft: 77, Hard: 77}} }},
		{"a setting of its network", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start", "1\n0\n", func(o *spec.Options) {
			o.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
		}},
		{"a network of its own", "ls /sys/class/net", "lo\n", func(*spec.Options) {}},
		{"the sizes of its mounts", "grep -c 'shm.*size=65536k' /proc/mounts", "1\n", func(*spec.Options) {}},
		{"half a processor", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d \" \" -f 1 /sys/fs/cgroup/cpu.max", "50000\n", func(o *spec.Options) { o.Limits.CPUs = 0.5 }},
	} {
		out, _ := w.run(c.script, func(o *spec.Options, _ *supervisor.Request) { c.change(o) })
		if out != c.want {
			t.Errorf("%s: got %q, want %q", c.does, out, c.want)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 20
	said := make([]string, n)
	errs := make([]error, n)
	requests := make([]supervisor.Request, n)
	for i := range n {
		requests[i] = w.request(fmt.Sprintf("echo %d; exit %d", i, i))
	}
	var work sync.WaitGroup
	for i, r := range requests {
		work.Go(func() {
			if errs[i] = w.Create(t.Context(), r); errs[i] != nil {
				return
			}
			if _, errs[i] = w.Start(t.Context(), r.ID); errs[i] != nil {
				return
			}
			e, err := w.Wait(t.Context(), r.ID)
			said[i], errs[i] = fmt.Sprint(e.Code), err
		})
	}
	work.Wait()
	for i := range n {
		if want := fmt.Sprint(i); errs[i] != nil || said[i] != want || w.output(requests[i]) != want+"\n" {
			t.Errorf("container %d: code %s, %q, %v", i, said[i], w.output(requests[i]), errs[i])
		}
	}
}

// Who follows the events and then lists misses nothing.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	var got []string
	var versions []uint64
	done := make(chan error, 1)
	go func() {
		done <- w.Events(ctx, func() { close(ready) }, func(e supervisor.Event) error {
			got = append(got, e.Action)
			versions = append(versions, e.Status.Version)
			if e.Action == supervisor.OnDelete {
				cancel()
			}
			return nil
		})
	}()
	<-ready
	r := w.request("exit 3")
	w.wait(w.start(r))
	w.must(w.Delete(t.Context(), r.ID, false))
	w.must(<-done)
	if fmt.Sprint(got) != "[create start die destroy]" || !slices.IsSorted(versions) {
		t.Errorf("got %v, %v", got, versions)
	}
}
