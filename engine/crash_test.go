package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sampan.dev/sampan/engine"
)

// serveEnv makes this test program an engine that a test can kill: it starts a container that
// counts, says its ID, and works until it is killed.
const serveEnv = "SAMPAN_TEST_ENGINE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func victim(dir string) error {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Config{Dir: dir, Init: os.Getenv("SAMPAN_TEST_INIT")})
	if err != nil {
		return err
	}
	if all, err := e.Containers(ctx, nil); err != nil || len(all) == 0 {
		c, err := e.Create(ctx, engine.Spec{Image: "box", Ports: []engine.Port{{Container: 80}},
			Command: []string{"sh", "-c", "httpd -p 80; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; echo end; exec sleep 600"}})
		if err == nil {
			err = e.Start(ctx, c.ID)
		}
		if err != nil {
			return err
		}
	}
	fmt.Println("ready")
	return e.Run(ctx)
}

func TestKilledEnginesLoseNothing(t *testing.T) {
	initPath, _ := machine(t)
	dir := t.TempDir()
	t.Cleanup(func() { leftovers(t, dir) })
	t.Run("an image", func(t *testing.T) { box(t, open(t, dir)) })
	for range 5 {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), serveEnv+"="+dir, "SAMPAN_TEST_INIT="+initPath)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("the engine says %q, %v", line, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	e := open(t, dir)
	defer purge(t, e)
	all, err := e.Containers(t.Context(), nil)
	if err != nil || len(all) != 1 || all[0].State != engine.Running {
		t.Fatalf("%+v, %v", all, err)
	}
	until(t, e, all[0].ID, "end")
	for i, line := range strings.Split(output(t, e, all[0].ID), "\n") {
		if i < 3000 && line != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	if got := get(t, fmt.Sprintf("127.0.0.1:%d", all[0].Place.Ports[0].Host)); !strings.Contains(got, "404") {
		t.Errorf("its port says %q", got)
	}
}

func TestASupervisorThatIsKilledComesBack(t *testing.T) {
	e := fresh(t)
	c := start(t, e, with(sh("echo up; exec sleep 600"), func(s *engine.Spec) {
		s.Restart = engine.Restart{Policy: engine.RestartAlways}
	}))
	until(t, e, c.ID, "up")
	if err := exec.Command("kill", "-9", fmt.Sprint(e.SupervisorPid())).Run(); err != nil {
		t.Fatal(err)
	}
	for {
		now, err := e.Container(t.Context(), c.ID)
		if err == nil && now.State == engine.Running {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	exit, err := e.Exec(t.Context(), c.ID, engine.ExecSpec{Command: []string{"echo", "alive"}}, engine.Streams{Stdout: &out})
	if err != nil || exit.Code != 0 || out.String() != "alive\n" {
		t.Errorf("%v, %v, %q", exit, err, out.String())
	}
}
