package engine_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// execute runs a command in a container and returns what it prints.
func execute(t *testing.T, e *engine.Engine, id string, command ...string) string {
	t.Helper()
	var out bytes.Buffer
	_, err := e.Exec(t.Context(), id, engine.ExecSpec{Command: command}, engine.Streams{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestNamespacesOfAnother(t *testing.T) {
	e := fresh(t)
	first := start(t, e, with(sh("echo here >/dev/shm/note; sleep 600"), func(s *engine.Spec) { s.Name, s.IPC, s.ShmSize = "first", "shareable", 1<<20 }))
	second := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) {
		s.IPC, s.PID, s.Network = "container:first", "container:first", "container:first"
	}))
	for command, want := range map[string]string{
		"cat /dev/shm/note": "here\n",
		"cat /etc/hostname": first.ID[:12] + "\n",
		"tr '\\0' ' ' </proc/1/cmdline; busybox df -k /dev/shm | busybox awk 'NR==2{print $2}'": "sleep 600 1024\n",
		"busybox ip -4 -o addr show eth0 | busybox awk '{print $4}' | busybox cut -d/ -f1":      first.IP + "\n",
	} {
		if got := execute(t, e, second.ID, "sh", "-c", command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if _, out := run(t, e, with(sh("ls -d /dev/shm"), func(s *engine.Spec) { s.IPC = "none" })); !strings.Contains(out, "No such file") {
		t.Errorf("without IPC: %q", out)
	}
	machineName, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if _, out := run(t, e, with(sh("hostname"), func(s *engine.Spec) { s.UTS = "host" })); out != machineName+"\n" {
		t.Errorf("with the machine's names: %q", out)
	}
	private := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) { s.Name = "private" }))
	for what, s := range map[string]engine.Spec{
		"its IPC is its own": {IPC: "container:" + private.Name}, "nobody has the name": {PID: "container:nobody"}, "no such mode": {PID: "maybe"},
		"ports of another": {Network: "container:first", Ports: []engine.Port{{Container: 80}}},
	} {
		s.Image, s.Command = "box", []string{"true"}
		c, err := e.Create(t.Context(), s)
		if err == nil {
			err = e.Start(t.Context(), c.ID)
		}
		if _, ok := fault.Of(err); !ok {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWaitsAndAutomaticRemoval(t *testing.T) {
	e := fresh(t)
	c, err := e.Create(t.Context(), with(sh("sleep 0.2; exit 7"), func(s *engine.Spec) {
		s.AutoRemove, s.Mounts = true, []engine.Mount{{Type: engine.Volume, Target: "/v"}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	waits := map[string]func() (engine.Exit, error){}
	for _, condition := range []string{engine.NextExit, engine.Removed} {
		if waits[condition], err = e.WaitFor(t.Context(), c.ID, condition); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := e.WaitFor(t.Context(), c.ID, engine.NotRunning); err != nil {
		t.Fatal(err)
	} else if exit, err := now(); err != nil || exit.Code != 0 {
		t.Errorf("before its start: %+v, %v", exit, err)
	}
	if err := e.Start(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	for condition, wait := range waits {
		if exit, err := wait(); err != nil || exit.Code != 7 {
			t.Errorf("%s: %+v, %v", condition, exit, err)
		}
	}
	if _, err := e.Container(t.Context(), c.ID); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("it is still there: %v", err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all, err := e.Volumes(t.Context())
		if err == nil && len(all) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("its volume stays: %v, %v", all, err)
		}
	}
	never, err := e.Create(t.Context(), engine.Spec{Image: "box", Command: []string{"/no/such"}, AutoRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := e.WaitFor(t.Context(), never.ID, engine.Removed)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), never.ID); err == nil {
		t.Error("a missing program was started")
	}
	if _, err := gone(); err != nil {
		t.Error(err)
	}
	if _, err := e.WaitFor(t.Context(), c.ID, "tea-time"); !fault.Is(err, fault.KindInvalid) {
		t.Errorf("an unknown condition: %v", err)
	}
}

func TestNetworksWhileItRuns(t *testing.T) {
	e := fresh(t)
	for _, name := range []string{"front", "back"} {
		if _, err := e.CreateNetwork(t.Context(), engine.NetworkSpec{Name: name, Internal: name == "back"}); err != nil {
			t.Fatal(err)
		}
	}
	db := start(t, e, engine.Spec{Image: "box", Name: "db", Network: "back", Command: []string{"sh", "-c", "echo up; exec httpd -f -p 80 -h /data"}})
	until(t, e, db.ID, "up")
	app := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) { s.Network = "front" }))
	ask := []string{"sh", "-c", "wget -q -O - http://store/seed 2>/dev/null || echo nobody"}
	if got := execute(t, e, app.ID, ask...); got != "nobody\n" {
		t.Errorf("before: %q", got)
	}
	if err := e.Disconnect(t.Context(), db.ID, "back", false); err != nil {
		t.Fatal(err)
	}
	if err := e.Connect(t.Context(), db.ID, "back", engine.Attachment{Aliases: []string{"store"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Connect(t.Context(), app.ID, "back", engine.Attachment{}); err != nil {
		t.Fatal(err)
	}
	if got := execute(t, e, app.ID, ask...); got != "from the image\n" {
		t.Errorf("in both networks: %q", got)
	}
	if err := e.RemoveNetwork(t.Context(), "back"); !fault.Is(err, fault.KindConflict) {
		t.Errorf("removing a network with members: %v", err)
	}
	members, err := e.NetworkMembers(t.Context(), "back")
	if err != nil || len(members) != 2 {
		t.Errorf("members: %v, %v", members, err)
	}
	if err := e.Restart(t.Context(), app.ID, "", time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	if got := execute(t, e, app.ID, ask...); got != "from the image\n" {
		t.Errorf("after a restart: %q", got)
	}
	if err := e.Disconnect(t.Context(), app.ID, "back", false); err != nil {
		t.Fatal(err)
	}
	if got := execute(t, e, app.ID, ask...); got != "nobody\n" {
		t.Errorf("after it left: %q", got)
	}
	if err := e.Disconnect(t.Context(), app.ID, "back", false); !fault.Is(err, fault.KindConflict) {
		t.Errorf("leaving twice: %v", err)
	}
}

func TestChangesOfAContainer(t *testing.T) {
	e := fresh(t)
	c := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) { s.Name = "old" }))
	if err := e.Rename(t.Context(), "old", "new"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Container(t.Context(), "old"); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("by its old name: %v", err)
	}
	if err := e.Rename(t.Context(), c.ID, "new"); !fault.Is(err, fault.KindConflict) {
		t.Errorf("to its own name: %v", err)
	}
	limits := engine.Limits{Memory: 64 << 20, Pids: 50}
	if err := e.Update(t.Context(), "new", engine.Update{Limits: &limits, Restart: &engine.Restart{Policy: engine.RestartAlways}}); err != nil {
		t.Fatal(err)
	}
	s, err := e.Stats(t.Context(), "new")
	if err != nil || s.MemoryLimit != 64<<20 || s.PidsLimit != 50 {
		t.Errorf("limits now: %d, %d, %v", s.MemoryLimit, s.PidsLimit, err)
	}
	pids, err := e.Processes(t.Context(), "new")
	if err != nil || len(pids) == 0 {
		t.Errorf("processes: %v, %v", pids, err)
	}
	before := c.Pid
	if err := e.Restart(t.Context(), "new", "KILL", time.Second); err != nil {
		t.Fatal(err)
	}
	if c, err = e.Container(t.Context(), "new"); err != nil || c.Pid == before || c.State != engine.Running {
		t.Errorf("after a restart: %s, process %d was %d, %v", c.State, c.Pid, before, err)
	}
}

func TestFilesOfAContainer(t *testing.T) {
	e := fresh(t)
	outside := t.TempDir()
	c := start(t, e, with(sh("echo new >/data/new; echo x >>/data/seed; busybox rm /etc/group; mkdir /made; sleep 600"), func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Type: engine.Volume, Source: "kept", Target: "/vol"}, {Type: engine.Bind, Source: outside, Target: "/mnt/out"}}
	}))
	for end := time.Now().Add(5 * time.Second); execute(t, e, c.ID, "ls", "-d", "/made") != "/made\n" && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	want := []engine.Change{{"/data", engine.Modified}, {"/data/new", engine.Added}, {"/data/seed", engine.Modified}, {"/etc/group", engine.Deleted}, {"/made", engine.Added}}
	got, err := e.Changes(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("the change %v is missing in %v", w, got)
		}
	}
	for _, g := range got {
		if strings.HasPrefix(g.Path, "/dev") || g.Path == "/etc/hosts" || strings.HasPrefix(g.Path, "/vol/") {
			t.Errorf("%v is no change", g)
		}
	}
	look := func(when string) {
		root, release, err := e.Files(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := release(); err != nil {
				t.Error(err)
			}
		}()
		if err := os.WriteFile(filepath.Join(root, "vol", when), nil, 0o600); err != nil {
			t.Errorf("%s: the volume is not seen: %v", when, err)
		}
		if err := os.WriteFile(filepath.Join(root, "mnt/out", when), nil, 0o600); err != nil {
			t.Errorf("%s: the bind is not seen: %v", when, err)
		}
		if _, err := os.Stat(filepath.Join(outside, when)); err != nil {
			t.Error(err)
		}
	}
	look("running")
	image, err := e.Commit(t.Context(), c.ID, engine.CommitOptions{Ref: "made:1", Author: "ann", Message: "why", Pause: true, Changes: []string{`CMD ["cat", "/data/new"]`, "ENV A=b"}})
	if err != nil {
		t.Fatal(err)
	}
	if image.Config.Author != "ann" || !slices.Contains(image.Config.Env, "A=b") {
		t.Errorf("the image says %+v", image.Config)
	}
	if err := e.Stop(t.Context(), c.ID, "KILL", 0); err != nil {
		t.Fatal(err)
	}
	look("stopped")
	if _, out := run(t, e, engine.Spec{Image: "made:1"}); out != "new\n" {
		t.Errorf("a container of the commit says %q", out)
	}
	if _, out := run(t, e, engine.Spec{Image: "made:1", Command: []string{"ls", "/etc"}}); strings.Contains(out, "group") {
		t.Errorf("what was removed is in the commit: %q", out)
	}
	written, all, err := e.Size(t.Context(), c.ID)
	if err != nil || written <= 0 || all <= written {
		t.Errorf("sizes %d, %d, %v", written, all, err)
	}
	names := exported(t, e, c.ID)
	if !slices.Contains(names, "data/new") || !slices.Contains(names, "bin/busybox") || slices.Contains(names, "vol/running") {
		t.Errorf("the export has %v", names)
	}
}

// exported are the names in the archive of a container.
func exported(t *testing.T, e *engine.Engine, id string) (names []string) {
	t.Helper()
	r, w := io.Pipe()
	go func() { w.CloseWithError(e.Export(t.Context(), id, w)) }()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.Trim(h.Name, "./"))
	}
}

func TestVolumesWithDevicesAndParts(t *testing.T) {
	e := fresh(t)
	_, err := e.CreateVolume(t.Context(), engine.VolumeSpec{Name: "small", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"}})
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Type: engine.Volume, Source: "small", Target: "/small"}, {Type: engine.Volume, Source: "whole", Target: "/whole"}}
	}))
	if got := execute(t, e, c.ID, "sh", "-c", "busybox df -k /small | busybox awk 'NR==2{print $2}'; busybox stat -c %u /small"); got != "1024\n1000\n" {
		t.Errorf("the volume with a device: %q", got)
	}
	execute(t, e, c.ID, "sh", "-c", "mkdir -p /whole/a; echo deep >/whole/a/file; busybox ln -s / /whole/out")
	part := func(sub string) engine.Spec {
		return with(sh("cat /part/file /part/etc/passwd"), func(s *engine.Spec) {
			s.Mounts = []engine.Mount{{Type: engine.Volume, Source: "whole", Target: "/part", Subpath: sub}}
		})
	}
	if _, out := run(t, e, part("a")); !strings.Contains(out, "deep\n") {
		t.Errorf("a part of a volume: %q", out)
	}
	// A link in the volume leads nowhere but into the volume.
	if _, out := run(t, e, part("out")); strings.Contains(out, "root:x") {
		t.Errorf("by a link: %q", out)
	}
	if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.CreateVolume(t.Context(), engine.VolumeSpec{Name: "other", Driver: "cloud"}); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("an unknown driver: %v", err)
	}
}

func TestExecsAreKnown(t *testing.T) {
	e := fresh(t)
	c := start(t, e, sh("sleep 600"))
	x, err := e.CreateExec(t.Context(), c.ID, engine.ExecSpec{Command: []string{"sh", "-c", "sleep 0.2; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.DetachExec(t.Context(), x.ID); err != nil {
		t.Fatal(err)
	}
	if now, err := e.FindExec(t.Context(), x.ID); err != nil || !now.Running || now.Pid == 0 {
		t.Errorf("while it runs: %+v, %v", now, err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now, err := e.FindExec(t.Context(), x.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !now.Running {
			if now.Exit == nil || now.Exit.Code != 3 {
				t.Errorf("it ended with %+v", now.Exit)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("its end is not seen")
		}
	}
	if err := e.DetachExec(t.Context(), x.ID); !fault.Is(err, fault.KindConflict) {
		t.Errorf("a second start: %v", err)
	}
	if all, err := e.Container(t.Context(), c.ID); err != nil || !slices.Contains(all.Execs, x.ID) {
		t.Errorf("the container knows %v, %v", all.Execs, err)
	}
	missing, err := e.CreateExec(t.Context(), c.ID, engine.ExecSpec{Command: []string{"/no/such"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.DetachExec(t.Context(), missing.ID); err == nil {
		t.Error("a missing program was started")
	}
	if now, err := e.FindExec(t.Context(), missing.ID); err != nil || now.Exit == nil || now.Exit.Code != 127 {
		t.Errorf("a missing program: %+v, %v", now, err)
	}
}

func TestAnExecThatCannotBegin(t *testing.T) {
	e := fresh(t)
	c := start(t, e, sh("sleep 600"))
	x, err := e.CreateExec(t.Context(), c.ID, engine.ExecSpec{Command: []string{"true"}, User: "nosuch"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.StartExec(t.Context(), x.ID, engine.Streams{}); !fault.Is(err, fault.KindInvalid) {
		t.Errorf("as an unknown user: %v", err)
	}
	if now, err := e.FindExec(t.Context(), x.ID); err != nil || now.Exit == nil || now.Exit.Code != 126 {
		t.Errorf("it ended with %+v, %v", now.Exit, err)
	}
	if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.FindExec(t.Context(), x.ID); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("after its container: %v", err)
	}
}

// Who asks for a start may go away; the container is started, or it is not.
func TestAStartThatNobodyWaitsFor(t *testing.T) {
	e := fresh(t)
	for range 5 {
		c, err := e.Create(t.Context(), sh("sleep 600"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
		err = e.Start(ctx, c.ID)
		cancel()
		now, ierr := e.Container(t.Context(), c.ID)
		if ierr != nil || (now.State == engine.Running) != (err == nil) {
			t.Errorf("the start says %v, the container is %s, %v", err, now.State, ierr)
		}
		if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// Containers that begin at once with one new volume all see what the image has there.
func TestANewVolumeOfMany(t *testing.T) {
	e := fresh(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			c, err := e.Create(t.Context(), engine.Spec{Image: "box", Command: []string{"true"}, Mounts: []engine.Mount{{Type: engine.Volume, Source: "many", Target: "/bin"}}})
			if err == nil {
				err = e.Start(t.Context(), c.ID)
			}
			if err != nil {
				t.Error(err)
				return
			}
			if exit, err := e.Wait(t.Context(), c.ID); err != nil || exit.Code != 0 {
				t.Errorf("%+v, %v", exit, err)
			}
		})
	}
	all.Wait()
}

// A volume that nobody named goes with the last container that has it.
func TestAnUnnamedVolumeOfTwo(t *testing.T) {
	e := fresh(t)
	first := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) { s.Mounts = []engine.Mount{{Type: engine.Volume, Target: "/v"}} }))
	name := first.Volumes[0].Source
	second := start(t, e, with(sh("sleep 600"), func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Type: engine.Volume, Source: name, Target: "/v", Anonymous: true}}
	}))
	for _, c := range []engine.Container{first, second} {
		if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Fatal(err)
		}
		_, err := e.Volume(t.Context(), name)
		if last := c.ID == second.ID; fault.Is(err, fault.KindNotFound) != last {
			t.Errorf("after the last (%v): %v", last, err)
		}
	}
}

// rm -f ends a stop that has no end.
func TestAStopWithoutEnd(t *testing.T) {
	e := fresh(t)
	c := start(t, e, with(sh("trap '' TERM; echo deaf; while :; do sleep 1; done"), func(s *engine.Spec) {}))
	until(t, e, c.ID, "deaf")
	stopped := make(chan error, 1)
	go func() { stopped <- e.Stop(t.Context(), c.ID, "", -1) }()
	select {
	case err := <-stopped:
		t.Fatalf("it was stopped: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := e.Remove(t.Context(), c.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the stop says %v", err)
	}
}
