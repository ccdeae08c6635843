package engine_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/internal/initbin/initbintest"
	"sampan.dev/sampan/internal/fault"
)

// machine is what the tests need: root, a sampan-init and a static busybox. In CI their
// absence is a failure.
func machine(t testing.TB) (program, busybox string) {
	t.Helper()
	missing := func(why string) {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Getuid() != 0 {
		missing("containers need root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		missing("install the package busybox-static")
	}
	building.Do(func() { initPath = initbintest.Build(t) })
	if initPath == "" {
		missing("sampan-init could not be built")
	}
	return initPath, busybox
}

// A sampan-init is built once for all tests.
var (
	building sync.Once
	initPath string
)

// open is an engine in a directory of the test, which takes all its containers with it.
func open(t testing.TB, dir string) *engine.Engine {
	t.Helper()
	initPath, _ := machine(t)
	e, err := engine.Open(t.Context(), engine.Config{Dir: dir, Init: initPath, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait(); e.Close() })
	return e
}

func logger(t testing.TB) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	return slog.New(slog.DiscardHandler)
}

// fresh is an engine of its own with the image "box"; at the end it must leave nothing.
func fresh(t testing.TB) *engine.Engine {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { leftovers(t, dir) })
	e := open(t, dir)
	t.Cleanup(func() { purge(t, e) })
	box(t, e)
	return e
}

func purge(t testing.TB, e *engine.Engine) {
	t.Helper()
	if err := e.Purge(context.Background()); err != nil {
		t.Errorf("purge: %v", err)
	}
}

func box(t testing.TB, e *engine.Engine) {
	t.Helper()
	_, busybox := machine(t)
	raw, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dir := func(name string) { w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}) }
	file := func(name, text string) {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))})
		io.WriteString(w, text)
	}
	dir("bin")
	file("bin/busybox", string(raw))
	for _, name := range []string{"sh", "true", "false", "sleep", "echo", "cat", "nc", "id", "ls", "mount", "wget", "nslookup", "head", "unshare", "dd", "grep", "kill", "hostname", "touch", "test", "stty", "httpd", "env", "tail", "tr", "printf", "mkdir"} {
		w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	}
	dir("etc")
	file("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/:/bin/sh\n")
	file("etc/group", "root:x:0:\nann:x:1001:\n")
	dir("data")
	file("data/seed", "from the image\n")
	w.Close()
	_, err = e.Assemble(t.Context(), "box", "", []engine.Layer{{Open: func() (io.ReadCloser, error) {
		return io.NopCloser(&b), nil
	}}}, engine.ImageConfig{Env: []string{"PATH=/bin"}, Command: []string{"sh"}})
	if err != nil {
		t.Fatal(err)
	}
}

// leftovers looks for what a removed engine must not leave on the machine.
func leftovers(t testing.TB, dir string) {
	t.Helper()
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			t.Errorf("a mount stays: %s", line)
		}
	}
	sum := sha256.Sum256([]byte(dir + "/network"))
	key := hex.EncodeToString(sum[:])[:7]
	if links, err := net.Interfaces(); err == nil {
		for _, l := range links {
			if strings.Contains(l.Name, key) {
				t.Errorf("the interface %s stays", l.Name)
			}
		}
	}
	if c, err := nftables.New(); err == nil {
		tables, _ := c.ListTables()
		for _, table := range tables {
			if strings.Contains(table.Name, key) {
				t.Errorf("the table %s stays", table.Name)
			}
		}
	}
	sum = sha256.Sum256([]byte(dir))
	key = hex.EncodeToString(sum[:])[:12]
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/sampan/" + key)
	more, _ := filepath.Glob("/sys/fs/cgroup/sampan/" + key)
	for _, group := range append(groups, more...) {
		t.Errorf("the cgroup %s stays", group)
	}
	programs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range programs {
		if raw, err := os.ReadFile(file); err == nil && bytes.Contains(raw, []byte(dir)) {
			t.Errorf("a process stays: %q", raw)
		}
	}
}

func sh(script string) engine.Spec {
	return engine.Spec{Image: "box", Command: []string{"sh", "-c", script}}
}

func start(t testing.TB, e *engine.Engine, s engine.Spec) engine.Container {
	t.Helper()
	c, err := e.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if c, err = e.Container(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	return c
}

// run returns the exit and the output of a container that ends by itself.
func run(t testing.TB, e *engine.Engine, s engine.Spec) (engine.Exit, string) {
	t.Helper()
	c := start(t, e, s)
	exit, err := e.Wait(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return exit, output(t, e, c.ID)
}

func output(t testing.TB, e *engine.Engine, id string) string {
	t.Helper()
	var b strings.Builder
	err := e.Logs(t.Context(), id, engine.LogOptions{}, func(l engine.Line) error {
		b.WriteString(l.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// until follows the log of a container to a text.
func until(t testing.TB, e *engine.Engine, id, text string) {
	t.Helper()
	found := fmt.Errorf("found")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := e.Logs(ctx, id, engine.LogOptions{Follow: true}, func(l engine.Line) error {
		if strings.Contains(l.Text, text) {
			return found
		}
		return nil
	})
	if err != found {
		t.Fatalf("the log of %.12s does not say %q: %v; it says %q", id, text, err, output(t, e, id))
	}
}

func TestAContainerRuns(t *testing.T) {
	e := fresh(t)
	cases := []struct {
		sentence string
		spec     engine.Spec
		code     int
		output   string
	}{
		{"its output is logged and its exit code told", sh("echo out; echo err >&2; exit 3"), 3, "out\nerr\n"},
		{"it sees the environment of image and spec", with(sh("echo $PATH $A"), func(s *engine.Spec) { s.Env = []string{"A=1"} }), 0, "/bin 1\n"},
		{"it runs as a user of the image", with(sh("id -u; id -g"), func(s *engine.Spec) { s.User = "ann" }), 0, "1000\n1001\n"},
		{"it has its host name", with(sh("hostname; cat /etc/hostname"), func(s *engine.Spec) { s.Hostname = "boat" }), 0, "boat\nboat\n"},
		{"its system calls are filtered and it gains no privileges", sh("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status | tr -d '\\t'; unshare -m true 2>/dev/null || echo refused"), 0, "NoNewPrivs:1\nSeccomp:2\nrefused\n"},
		{"its root can be read-only", with(sh("touch /x 2>/dev/null || echo no"), func(s *engine.Spec) { s.ReadOnly = true }), 0, "no\n"},
		{"it has a tmpfs", with(sh("echo x > /t/x; cat /t/x"), func(s *engine.Spec) { s.Tmpfs = map[string]string{"/t": "size=1m"} }), 0, "x\n"},
		{"it is alone in the network none", with(sh("ls /sys/class/net"), func(s *engine.Spec) { s.Network = "none" }), 0, "lo\n"},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			exit, out := run(t, e, c.spec)
			if exit.Code != c.code || out != c.output && sorted(out) != sorted(c.output) {
				t.Errorf("exit %d, output %q", exit.Code, out)
			}
		})
	}
}

func sorted(s string) string {
	lines := strings.SplitAfter(s, "\n")
	for i := range lines {
		for j := range i {
			if lines[i] < lines[j] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return strings.Join(lines, "")
}

func with(s engine.Spec, edit func(*engine.Spec)) engine.Spec {
	edit(&s)
	return s
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	e := fresh(t)
	cases := []struct {
		sentence string
		spec     engine.Spec
		say      string
	}{
		{"no such image", engine.Spec{Image: "nothing"}, "no image nothing"},
		{"no such program", engine.Spec{Image: "box", Command: []string{"nonsense"}}, "nonsense"},
		{"no such user", with(sh("true"), func(s *engine.Spec) { s.User = "bob" }), "bob"},
		{"no such network", with(sh("true"), func(s *engine.Spec) { s.Network = "moon" }), "no network moon"},
		{"no such source of a mount", with(sh("true"), func(s *engine.Spec) {
			s.Mounts = []engine.Mount{{Type: engine.Bind, Source: "/nowhere", Target: "/x"}}
		}), "/nowhere"},
		{"a name with a slash", with(sh("true"), func(s *engine.Spec) { s.Name = "../x" }), "named"},
		{"no such signal", with(sh("true"), func(s *engine.Spec) { s.StopSignal = "SIGX" }), "SIGX"},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			made, err := e.Create(t.Context(), c.spec)
			if err == nil {
				err = e.Start(t.Context(), made.ID)
			}
			if _, ok := fault.Of(err); !ok || !strings.Contains(err.Error(), c.say) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestContainersTalk(t *testing.T) {
	e := fresh(t)
	web := start(t, e, engine.Spec{Image: "box", Name: "web", Networks: []engine.Attachment{{Network: engine.DefaultNetwork, Aliases: []string{"www"}}},
		Command: []string{"sh", "-c", "echo hello > /data/index.html; echo ready; exec httpd -f -p 80 -h /data"},
		Ports:   []engine.Port{{Container: 80}}})
	until(t, e, web.ID, "ready")
	if got := get(t, fmt.Sprintf("127.0.0.1:%d", web.Place.Ports[0].Host)); !strings.HasSuffix(got, "hello\n") {
		t.Errorf("the published port says %q", got)
	}
	if exit, out := run(t, e, sh("wget -q -O - http://www/")); exit.Code != 0 || out != "hello\n" {
		t.Errorf("by its alias: exit %d, %q", exit.Code, out)
	}
	if err := e.Stop(t.Context(), web.ID, "", time.Second); err != nil {
		t.Fatal(err)
	}
	c, err := e.Container(t.Context(), web.ID)
	if err != nil || c.State != engine.Exited || c.IP != "" {
		t.Errorf("after the stop: %+v, %v", c, err)
	}
	if err := e.Start(t.Context(), web.ID); err != nil {
		t.Fatal(err)
	}
	if web, err = e.Container(t.Context(), web.ID); err != nil { // its port is another one now
		t.Fatal(err)
	}
	if got := get(t, fmt.Sprintf("127.0.0.1:%d", web.Place.Ports[0].Host)); !strings.HasSuffix(got, "hello\n") {
		t.Errorf("after another start the published port says %q", got)
	}
}

// get asks again until somebody listens: the program says nothing when it does.
func get(t testing.TB, addr string) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		raw, _ := io.ReadAll(c)
		c.Close()
		return string(raw)
	}
	return ""
}

func TestLimitsHold(t *testing.T) {
	e := fresh(t)
	exit, _ := run(t, e, with(sh("x=$(head -c 64000000 /dev/zero | tr '\\0' x); echo ${#x}"), func(s *engine.Spec) { s.Limits.Memory = 32 << 20 }))
	if exit.Code != 137 && !exit.OOM {
		t.Errorf("with too little memory it ends with %+v", exit)
	}
	_, out := run(t, e, with(sh("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done 2>&1; echo end"), func(s *engine.Spec) { s.Limits.Pids = 5 }))
	if !strings.Contains(out, "fork") {
		t.Errorf("with five processes allowed it says %q", out)
	}
}

func TestExecAndAttach(t *testing.T) {
	e := fresh(t)
	c := start(t, e, with(sh("echo ready; exec sleep 60"), func(s *engine.Spec) { s.User = "ann"; s.Env = []string{"A=1"} }))
	var out, errout bytes.Buffer
	exit, err := e.Exec(t.Context(), c.ID, engine.ExecSpec{Command: []string{"sh", "-c", "cat; id -u; echo $A$B; echo oops >&2; exit 7"}, Env: []string{"B=2"}},
		engine.Streams{Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errout})
	if err != nil || exit.Code != 7 || out.String() != "typed\n1000\n12\n" || errout.String() != "oops\n" {
		t.Errorf("%v, %v, %q, %q", exit, err, out.String(), errout.String())
	}
	made, err := e.Create(t.Context(), with(sh("cat; echo bye"), func(s *engine.Spec) { s.Stdin = true }))
	if err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	wait, err := e.Attach(t.Context(), made.ID, engine.Streams{Stdin: strings.NewReader("hello\n"), Stdout: &seen})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if exit, err := wait(); err != nil || exit.Code != 0 || seen.String() != "hello\nbye\n" {
		t.Errorf("%v, %v, %q", exit, err, seen.String())
	}
}

func TestVolumes(t *testing.T) {
	e := fresh(t)
	v := func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Type: engine.Volume, Source: "keep", Target: "/data"}}
	}
	if _, out := run(t, e, with(sh("cat /data/seed; echo more > /data/more"), v)); out != "from the image\n" {
		t.Errorf("the new volume says %q", out)
	}
	if _, out := run(t, e, with(sh("cat /data/more"), v)); out != "more\n" {
		t.Errorf("the old volume says %q", out)
	}
	if err := e.RemoveVolume(t.Context(), "keep", false); !fault.Is(err, fault.KindConflict) {
		t.Errorf("a volume in use: %v", err)
	}
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "f"), []byte("host\n"), 0o644)
	_, out := run(t, e, with(sh("cat /h/f; touch /h/g 2>/dev/null || echo no"), func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Type: engine.Bind, Source: host, Target: "/h", ReadOnly: true}}
	}))
	if out != "host\nno\n" {
		t.Errorf("the bind mount says %q", out)
	}
}

func TestANewEngineFindsItsContainers(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { leftovers(t, dir) })
	var id, addr string
	t.Run("before", func(t *testing.T) {
		e := open(t, dir)
		box(t, e)
		c := start(t, e, with(sh("echo one; exec httpd -f -p 80"), func(s *engine.Spec) { s.Ports = []engine.Port{{Container: 80}} }))
		until(t, e, c.ID, "one")
		id, addr = c.ID, fmt.Sprintf("127.0.0.1:%d", c.Place.Ports[0].Host)
	})
	if got := get(t, addr); !strings.Contains(got, "404") {
		t.Errorf("while there is no engine: %q", got)
	}
	e := open(t, dir)
	defer purge(t, e)
	c, err := e.Container(t.Context(), id)
	if err != nil || c.State != engine.Running || c.IP == "" {
		t.Fatalf("the container is %+v, %v", c, err)
	}
	if got := get(t, addr); !strings.Contains(got, "404") {
		t.Errorf("with a new engine: %q", got)
	}
	if got := output(t, e, id); got != "one\n" {
		t.Errorf("the log says %q", got)
	}
}

func TestEventsAndRestarts(t *testing.T) {
	e := fresh(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var seen []string
	done := fmt.Errorf("enough")
	heard := make(chan error, 1)
	listening := make(chan struct{})
	go func() {
		close(listening)
		heard <- e.Events(ctx, time.Time{}, func() {}, func(ev engine.Event) error {
			if ev.Name != "again" {
				return nil
			}
			seen = append(seen, ev.Action)
			if strings.Count(strings.Join(seen, " "), "die") == 3 && ev.State == engine.Exited {
				return done
			}
			return nil
		})
	}()
	<-listening
	start(t, e, engine.Spec{Image: "box", Name: "again", Command: []string{"false"}, Restart: engine.Restart{Policy: engine.RestartOnFailure, Max: 2}})
	if err := <-heard; err != done {
		t.Fatalf("%v after %v", err, seen)
	}
	if c, err := e.Container(t.Context(), "again"); err != nil || c.Restarts != 2 || c.State != engine.Exited {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestHealth(t *testing.T) {
	e := fresh(t)
	c := start(t, e, with(sh("echo up; exec sleep 60"), func(s *engine.Spec) {
		s.Health = &engine.Health{Command: []string{"test", "-e", "/data/seed"}, Interval: 50 * time.Millisecond}
	}))
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if now, err := e.Container(t.Context(), c.ID); err != nil || now.Healthy == "healthy" {
			return
		}
	}
	t.Error("it does not become healthy")
}

func TestRemoveWhileRunningNeedsForce(t *testing.T) {
	e := fresh(t)
	c := start(t, e, sh("exec sleep 60"))
	if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Volumes: true}); !fault.Is(err, fault.KindConflict) {
		t.Errorf("without force: %v", err)
	}
	if _, err := e.RemoveImage(t.Context(), "box", false); !fault.Is(err, fault.KindConflict) {
		t.Errorf("its image: %v", err)
	}
	if err := e.Kill(t.Context(), c.ID, "KILL"); err != nil {
		t.Error(err)
	}
	if exit, err := e.Wait(t.Context(), c.ID); err != nil || exit.Code != 137 {
		t.Errorf("killed: %v, %v", exit, err)
	}
	if err := e.Remove(t.Context(), c.ID[:12], engine.RemoveOptions{Volumes: true}); err != nil {
		t.Error(err)
	}
	if _, err := e.Container(t.Context(), c.ID); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("after that: %v", err)
	}
}

func TestWithoutOverlayfsLayersAreCopied(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { leftovers(t, dir) })
	if err := os.MkdirAll(filepath.Join(dir, "store", "native"), 0o700); err != nil { // it stays with what it began with
		t.Fatal(err)
	}
	e := open(t, dir)
	defer purge(t, e)
	box(t, e)
	if exit, out := run(t, e, sh("cat /data/seed; echo x > /data/seed")); exit.Code != 0 || out != "from the image\n" {
		t.Errorf("%+v, %q", exit, out)
	}
	if _, out := run(t, e, sh("cat /data/seed")); out != "from the image\n" {
		t.Errorf("a container changed the image: %q", out)
	}
}

func TestTerminals(t *testing.T) {
	e := fresh(t)
	c, err := e.Create(t.Context(), with(sh("stty size; exit 4"), func(s *engine.Spec) { s.TTY, s.Stdin = true, true }))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	wait, err := e.Attach(t.Context(), c.ID, engine.Streams{Stdout: &out})
	if err == nil {
		err = e.Start(t.Context(), c.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := wait(); err != nil || exit.Code != 4 || !strings.HasSuffix(out.String(), "\r\n") {
		t.Errorf("%v, %v, %q", exit, err, out.String())
	}
	long := start(t, e, sh("exec sleep 60"))
	out.Reset()
	exit, err := e.Exec(t.Context(), long.ID, engine.ExecSpec{Command: []string{"stty", "size"}, TTY: true, Size: engine.Size{Columns: 100, Rows: 30}}, engine.Streams{Stdout: &out})
	if err != nil || exit.Code != 0 || out.String() != "30 100\r\n" {
		t.Errorf("%v, %v, %q", exit, err, out.String())
	}
}

func TestNetworksOfPeople(t *testing.T) {
	e := fresh(t)
	n, err := e.CreateNetwork(t.Context(), engine.NetworkSpec{Name: "back"})
	if err != nil {
		t.Fatal(err)
	}
	db := start(t, e, engine.Spec{Image: "box", Name: "db", Network: "back", Command: []string{"sh", "-c", "echo up; exec httpd -f -p 80 -h /data"}})
	until(t, e, db.ID, "up")
	if ip := db.IP; !strings.HasPrefix(ip, n.Pools[0].Subnet.Addr().String()[:5]) {
		t.Errorf("its address is %s in %s", ip, n.Pools[0].Subnet)
	}
	in := with(sh("wget -q -O - http://db/seed"), func(s *engine.Spec) { s.Network = "back" })
	if exit, out := run(t, e, in); exit.Code != 0 || out != "from the image\n" {
		t.Errorf("inside: %+v, %q", exit, out)
	}
	if exit, _ := run(t, e, sh("wget -q -T 1 -O - http://"+db.IP+"/seed")); exit.Code == 0 {
		t.Error("another network reaches it")
	}
	if err := e.RemoveNetwork(t.Context(), "back"); !fault.Is(err, fault.KindConflict) {
		t.Errorf("a network in use: %v", err)
	}
	all, err := e.Containers(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Error(err)
		}
	}
	if err := e.RemoveNetwork(t.Context(), "back"); err != nil {
		t.Error(err)
	}
}

func TestStats(t *testing.T) {
	e := fresh(t)
	c := start(t, e, with(sh("echo up; exec sleep 60"), func(s *engine.Spec) { s.Limits = engine.Limits{Memory: 64 << 20, Pids: 50} }))
	until(t, e, c.ID, "up")
	s, err := e.Stats(t.Context(), c.ID)
	if err != nil || s.Memory == 0 || s.MemoryLimit != 64<<20 || s.Pids == 0 || s.PidsLimit != 50 || s.CPU == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAnExitCodeIsRemembered(t *testing.T) {
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		e := open(t, dir)
		box(t, e)
		if exit, _ := run(t, e, with(sh("echo last words; exit 3"), func(s *engine.Spec) { s.Name = "dead" })); exit.Code != 3 {
			t.Errorf("%+v", exit)
		}
	})
	e := open(t, dir)
	defer purge(t, e)
	c, err := e.Container(t.Context(), "dead")
	if err != nil || c.State != engine.Exited || c.Exit.Code != 3 || output(t, e, c.ID) != "last words\n" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := e.Start(t.Context(), "dead"); err != nil {
		t.Error(err)
	}
}

func TestAClosedEngineWithoutContainersLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Run("a container comes and goes", func(t *testing.T) {
		e := open(t, dir)
		box(t, e)
		c := start(t, e, sh("true"))
		if _, err := e.Wait(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Volumes: true}); err != nil {
			t.Fatal(err)
		}
	})
	leftovers(t, dir)
	e := open(t, dir)
	defer purge(t, e)
	if exit, out := run(t, e, sh("echo again")); exit.Code != 0 || out != "again\n" {
		t.Errorf("%+v, %q", exit, out)
	}
}
