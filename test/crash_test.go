package test_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// kills is how often TestKilledServerLosesNothing kills; SAMPAN_KILLS asks for more.
func kills(t *testing.T) int {
	if text := os.Getenv("SAMPAN_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SAMPAN_KILLS: %v", err)
		}
		return n
	}
	return 5
}

// A ledger counts what the server acknowledged.
type ledger struct {
	mu      sync.Mutex
	commits []string // pushed, and git said yes
	config  int      // the highest value of N that a config change acknowledged
	tried   int      // the highest that was tried
}

// The server is killed at random moments while people push, change configuration and fetch.
// Whatever was acknowledged must be there in the end, and an app that nobody touched must
// have run on without losing a line of its log.
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	m := begin(t)
	steady := deployTicker(t, m, "steady")
	deployTicker(t, m, "busy")
	if _, err := m.sampan("ann", "repo", "create", "notes"); err != nil {
		t.Fatal(err)
	}
	notes := m.path("notes")
	if err := m.example("static", notes); err != nil {
		t.Fatal(err)
	}

	var l ledger
	var stop atomic.Bool
	var work sync.WaitGroup
	work.Go(func() { l.push(m, notes, &stop) })
	work.Go(func() { l.configure(m, &stop) })
	for n := range kills(t) {
		time.Sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond))))
		if err := m.signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := m.start(os.Environ()); err != nil {
			t.Fatalf("start after kill %d: %v", n+1, err)
		}
	}
	stop.Store(true)
	work.Wait()

	if got := answer(t, m, "steady"); got != steady {
		ps, _ := m.sampan("ann", "ps", "-a", "steady")
		logs, _ := m.sampan("ann", "logs", "-n", "20", "-a", "steady")
		t.Errorf("steady was restarted: it answered %q before and %q after\n%s\n%s", steady, got, ps, logs)
	}
	checkTicks(t, m)
	l.check(t, m)
}

// push makes commits and pushes them, one after the other.
func (l *ledger) push(m *machine, dir string, stop *atomic.Bool) {
	for n := 0; !stop.Load(); n++ {
		if _, err := m.run("ann", dir, "git", "commit", "-q", "--allow-empty", "-m", fmt.Sprint("note ", n)); err != nil {
			continue
		}
		head, err := m.run("ann", dir, "git", "rev-parse", "HEAD")
		if err != nil {
			continue
		}
		if _, err := m.run("ann", dir, "git", "push", "-q", m.sshURL("ann/notes"), "main"); err == nil {
			l.mu.Lock()
			l.commits = append(l.commits, strings.TrimSpace(head))
			l.mu.Unlock()
		}
	}
}

// configure sets N of busy to 1, 2, 3, …
func (l *ledger) configure(m *machine, stop *atomic.Bool) {
	for n := 1; !stop.Load(); n++ {
		l.mu.Lock()
		l.tried = n
		l.mu.Unlock()
		if _, err := m.sampan("ann", "config", "set", fmt.Sprint("N=", n), "-a", "busy"); err == nil {
			l.mu.Lock()
			l.config = n
			l.mu.Unlock()
		}
	}
}

func (l *ledger) check(t *testing.T, m *machine) {
	t.Logf("acknowledged: %d pushes, configuration %d of %d tried", len(l.commits), l.config, l.tried)
	all, err := m.run("ann", m.dir, "git", "clone", "-q", "--bare", m.sshURL("ann/notes"), m.path("copy"))
	if err != nil {
		t.Fatal(all, err)
	}
	history, err := m.run("ann", m.path("copy"), "git", "log", "--format=%H", "main")
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, c := range l.commits {
		if !strings.Contains(history, c) {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged pushes are lost", lost)
	}
	config, err := m.sampan("ann", "config", "-a", "busy")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`N=(\d+)`).FindStringSubmatch(config)
	value := 0
	if found != nil {
		value, _ = strconv.Atoi(found[1])
	}
	if value < l.config || value > l.tried {
		t.Errorf("configuration is N=%d; acknowledged was %d, tried %d", value, l.config, l.tried)
	}
	if status, _, err := m.get("busy", "/"); err != nil || status != 200 {
		t.Errorf("busy answers %d %v", status, err)
	}
}

var tick = regexp.MustCompile(`tick (\d+)`)

// checkTicks reads the whole log of steady: every number from the first to the last.
func checkTicks(t *testing.T, m *machine) {
	text, err := m.sampan("ann", "logs", "-n", "1000000", "-a", "steady")
	if err != nil {
		t.Fatal(err)
	}
	next := -1
	for _, found := range tick.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(found[1])
		if next >= 0 && n != next {
			t.Fatalf("the log of steady goes from tick %d to tick %d", next-1, n)
		}
		next = n + 1
	}
	if next < 50 {
		t.Errorf("the log of steady ends at tick %d", next-1)
	}
	t.Logf("the log of steady is whole: %d lines", next)
}

// begin starts a server with ann signed in, and ends it with the test.
func begin(t testing.TB) *machine {
	t.Helper()
	m, err := newMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	beginOn(t, m, os.Environ())
	return m
}

// beginOn does so on a machine, in an environment.
func beginOn(t testing.TB, m *machine, env []string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(m.path("server.log")); err == nil {
				t.Logf("the server's log:\n%s", tail(string(log), 60))
			}
		}
		if err := m.end(); err != nil {
			t.Error(err)
		}
	})
	if err := m.start(env); err != nil {
		t.Fatal(err)
	}
	if err := m.login("ann"); err != nil {
		t.Fatal(err)
	}
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// deployTicker deploys testdata/ticker as an app with a remote of its own and returns its
// answer, which tells one process from the next.
func deployTicker(t testing.TB, m *machine, app string) string {
	t.Helper()
	if _, err := m.sampan("ann", "apps", "create", app, "--no-remote"); err != nil {
		t.Fatal(err)
	}
	dir := m.path("source-" + app)
	if err := os.CopyFS(dir, os.DirFS("testdata/ticker")); err != nil {
		t.Fatal(err)
	}
	for _, git := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"push", m.sshURL(app), "main"}} {
		if _, err := m.run("ann", dir, "git", git...); err != nil {
			t.Fatal(err)
		}
	}
	return answer(t, m, app)
}

func answer(t testing.TB, m *machine, app string) string {
	t.Helper()
	status, body, err := m.get(app, "/")
	if err != nil || status != 200 {
		t.Fatalf("%s answers %d %v\n%s", app, status, err, body)
	}
	return body
}
