package test_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// idle is how long a server does nothing before its memory counts as that of an idle one.
const idle = 2 * time.Second

// BenchmarkServe is the time from the start of the program to its first page.
func BenchmarkServe(b *testing.B) {
	m := begin(b)
	var times []time.Duration
	for b.Loop() {
		if err := m.signal(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if err := m.start(os.Environ()); err != nil {
			b.Fatal(err)
		}
		resp, err := http.Get(m.url() + "/-/sign-in")
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(resp, err)
		}
		resp.Body.Close()
		times = append(times, time.Since(begin))
	}
	report(b, "first-page", times)
	time.Sleep(idle)
	memory, list := family(b, m)
	b.ReportMetric(float64(memory)/1e6, "idle-MB")
	b.Logf("idle memory: %s", list)
	info, err := os.Stat(program)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "binary-MB")
}

// BenchmarkPush is the time from `git push` of one changed line of examples/hello-go to the
// first answer of the new commit.
func BenchmarkPush(b *testing.B) {
	m := begin(b)
	dir := m.path("hello")
	if _, err := m.pushHello(dir); err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	for n := 0; b.Loop(); n++ {
		took, err := m.pushLine(dir, n)
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, took)
	}
	report(b, "push-to-200", times)
}

// BenchmarkFirstPush is the first push to a server whose data directory is new: with the Go
// of this machine, and on one that has none, where the toolchain is fetched first.
func BenchmarkFirstPush(b *testing.B) {
	for _, c := range []struct {
		name string
		env  func(testing.TB) []string
	}{
		{"host", func(testing.TB) []string { return os.Environ() }},
		{"fetch", withoutGo},
	} {
		b.Run(c.name, func(b *testing.B) {
			env := c.env(b)
			var times []time.Duration
			for b.Loop() {
				m, err := coldMachine(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				beginOn(b, m, env)
				took, err := m.pushHello(m.path("hello"))
				if err != nil {
					b.Fatal(err)
				}
				times = append(times, took)
			}
			report(b, "first-push", times)
		})
	}
}

// withoutGo is an environment in which no Go is installed; where modules come from stays known.
func withoutGo(t testing.TB) []string {
	t.Helper()
	env := os.Environ()
	for _, name := range []string{"GOPROXY", "GOSUMDB"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\nexit 127\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return append(env, "PATH="+dir+":"+os.Getenv("PATH"))
}

// BenchmarkRollback is the time from the command to the first answer of the earlier release.
func BenchmarkRollback(b *testing.B) {
	m := begin(b)
	dir := m.path("hello")
	if _, err := m.pushHello(dir); err != nil {
		b.Fatal(err)
	}
	if _, err := m.pushLine(dir, 0); err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	for b.Loop() {
		_, before, err := m.get("hello", "/")
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if _, err := m.sampan("ann", "rollback", "-a", "hello"); err != nil {
			b.Fatal(err)
		}
		if err := m.changed("hello", before); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
	}
	report(b, "rollback-to-200", times)
}

// pushHello deploys examples/hello-go for the first time.
func (m *machine) pushHello(dir string) (time.Duration, error) {
	if _, err := m.sampan("ann", "apps", "create", "hello", "--no-remote"); err != nil {
		return 0, err
	}
	if err := m.example("hello-go", dir); err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := m.run("ann", dir, "git", "push", m.sshURL("hello"), "main"); err != nil {
		return 0, err
	}
	if status, _, err := m.get("hello", "/"); err != nil || status != 200 {
		return 0, fmt.Errorf("hello answers %d %w", status, err)
	}
	return time.Since(begin), nil
}

// pushLine changes one line, pushes it, and waits for the new answer.
func (m *machine) pushLine(dir string, n int) (time.Duration, error) {
	file := filepath.Join(dir, "main.go")
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	changed := strings.Replace(string(text), "Hello", fmt.Sprintf("Hello%d, hello", n), 1)
	if changed == string(text) {
		return 0, fmt.Errorf("%s has no line to change", file)
	}
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		return 0, err
	}
	if _, err := m.run("ann", dir, "git", "commit", "-q", "-a", "-m", fmt.Sprint("change ", n)); err != nil {
		return 0, err
	}
	_, before, err := m.get("hello", "/")
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := m.run("ann", dir, "git", "push", m.sshURL("hello"), "main"); err != nil {
		return 0, err
	}
	err = m.changed("hello", before)
	return time.Since(begin), err
}

// changed waits until an app answers something else.
func (m *machine) changed(app, before string) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if status, body, err := m.get(app, "/"); err == nil && status == 200 && body != before {
			return nil
		}
	}
	return fmt.Errorf("%s answers as before", app)
}

// report prints the median and the 95th percentile instead of the mean.
func report(b *testing.B, what string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(times[len(times)/2].Seconds()*1000, what+"-p50-ms")
	b.ReportMetric(times[len(times)*95/100].Seconds()*1000, what+"-p95-ms")
}

// residentOf reads /proc/PID/status; a process that is ending has none.
func residentOf(status []byte) int64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// family is the resident memory of the server and of every process whose program lies below
// its data directory.
func family(b *testing.B, m *machine) (bytes int64, list string) {
	b.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range dirs {
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if exe != program && !strings.HasPrefix(exe, m.data) && !strings.Contains(string(cmdline), m.data) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		resident := residentOf(status)
		bytes += resident
		list += fmt.Sprintf("%s %d MB; ", filepath.Base(exe), resident>>20)
	}
	return bytes, list
}
