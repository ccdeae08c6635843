package test_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sampan.dev/sampan/internal/db/dbtest"
)

// program is the sampan that the tests drive.
var program string

func TestMain(m *testing.M) {
	// Stories are mostly waiting for programs: tell more of them at once than there are cores.
	if err := flag.Set("test.parallel", strconv.Itoa(2+2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	flag.Parse()
	dir, err := os.MkdirTemp("", "sampan-test-")
	if err != nil {
		panic(err)
	}
	program, err = build(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build makes the program, under the race detector when the tests are.
func build(dir string) (string, error) {
	file := filepath.Join(dir, "sampan")
	if out, err := exec.Command("make", "-C", "..", "engine/internal/initbin/bin/sampan-init").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sampan-init: %w\n%s", err, out)
	}
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", file, "../cmd/sampan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if raceEnabled {
		cmd = exec.Command("go", "build", "-race", "-o", file, "../cmd/sampan")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sampan: %w\n%s", err, out)
	}
	return file, nil
}

func TestScripts(t *testing.T) {
	t.Parallel()
	var files []string
	for _, glob := range []string{"../*/testdata/*.txtar", "../*/internal/*/testdata/*.txtar"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	testscript.Run(t, params(files, setup))
}

// The scripts about records hold on PostgreSQL as well.
func TestScriptsOnPostgres(t *testing.T) {
	t.Parallel()
	files := []string{"testdata/push.txtar", "testdata/backup.txtar"}
	databases := make(chan string, 3*len(files)) // of each script, as many as it restores to
	for range cap(databases) {
		databases <- dbtest.Postgres(t)
	}
	testscript.Run(t, params(files, func(env *testscript.Env) error {
		err := setup(env)
		for _, name := range []string{"DATABASE", "DATABASE2", "DATABASE3"} {
			env.Setenv(name, <-databases)
		}
		m := env.Values[machineKey{}].(*machine)
		m.flags = append(m.flags, "--database", env.Getenv("DATABASE"))
		return err
	}))
}

func params(files []string, setup func(*testscript.Env) error) testscript.Params {
	return testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bases":      bases,
			"serve":      serve,
			"crash":      ending(syscall.SIGKILL),
			"halt":       ending(syscall.SIGTERM),
			"login":      login,
			"as":         as,
			"sampan":     sampan,
			"eventually": eventually,
			"example":    example,
		},
	}
}

type machineKey struct{}

func of(ts *testscript.TestScript) *machine { return ts.Value(machineKey{}).(*machine) }

func setup(env *testscript.Env) error {
	m, err := newMachine(env.WorkDir)
	if err != nil {
		return err
	}
	env.Values[machineKey{}] = m
	for _, v := range m.environ("nobody") {
		name, value, _ := strings.Cut(v, "=")
		if name != "WORK" && name != "PATH" {
			env.Setenv(name, value)
		}
	}
	env.Setenv("DATA", m.data)
	env.Setenv("URL", m.url())
	env.Setenv("PORT", port(m.http))
	env.Setenv("SSHURL", strings.TrimSuffix(m.sshURL(""), "/.git"))
	env.Setenv("SSHPORT", port(m.ssh))
	env.Setenv("ETCD", m.kv)
	env.Setenv("SAMPAN", program)
	spare, err := coldMachine(env.WorkDir) // for its ports, which nobody uses
	if err != nil {
		return err
	}
	env.Setenv("SPAREKV", spare.kv)
	env.Setenv("SPAREPEER", spare.peer)
	env.Defer(func() {
		if err := m.end(); err != nil {
			env.T().Fatal(err)
		}
	})
	return nil
}

func condition(cond string) (bool, error) {
	switch cond {
	case "root":
		return os.Getuid() == 0, nil
	case "race":
		return raceEnabled, nil
	case "peer": // a daemon of somebody else
		return os.Getenv("SAMPAN_PEER") != "", nil
	case "buildx", "compose": // plugins of Docker's client
		_, err := os.Stat("../.cache/test/docker/cli-plugins/docker-" + cond)
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// bases gives the machine the base images and Node that an earlier server has made.
func bases(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(warm(of(ts), node, store)) }

// serve starts the server and waits until it is ready: serve [FLAG…]. With ! it must refuse.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	m := of(ts)
	if !neg {
		ts.Check(m.start(os.Environ(), args...))
		ts.Setenv("SETUP", m.setup)
		return
	}
	if err := ts.Exec(program, m.args(args...)...); err == nil {
		ts.Fatalf("the server started and ended well; it should have refused")
	}
}

// ending is a command that ends the server with a signal; SIGKILL is what a power cut does.
func ending(sig syscall.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(of(ts).signal(sig)) }
}

// login NAME signs a person in and goes on as that person.
func login(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: login NAME")
	}
	ts.Check(of(ts).login(args[0]))
	as(ts, false, args)
}

// as NAME goes on as a person who has signed in. $TOKEN is the person's token.
func as(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: as NAME")
	}
	m := of(ts)
	token, err := m.token(args[0])
	ts.Check(err)
	ts.Setenv("TOKEN", token)
	ts.Setenv("SAMPAN_CONFIG", m.credentials(args[0]))
	ts.Setenv("GIT_SSH_COMMAND", m.sshCommand(args[0]))
}

// sampan ARG… runs the client.
func sampan(ts *testscript.TestScript, neg bool, args []string) {
	if err := ts.Exec(program, args...); (err != nil) != neg {
		ts.Fatalf("sampan %s: %v", strings.Join(args, " "), err)
	}
}

// eventually PROGRAM ARG… runs a program again until it succeeds (with !: fails).
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if args[0] == "sampan" {
		args = append([]string{program}, args[1:]...)
	}
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); (err != nil) == neg {
			return
		}
	}
	ts.Fatalf("not within a minute: %s: %v", strings.Join(args, " "), err)
}

// example NAME DIR makes a git repository of one of examples/.
func example(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: example NAME DIR")
	}
	ts.Check(of(ts).example(args[0], ts.MkAbs(args[1])))
}
