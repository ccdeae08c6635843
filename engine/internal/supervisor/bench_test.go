package supervisor_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
)

// BenchmarkTrue is the life of a container that runs `true`: create, start, wait, delete,
// without a network, in turns with `runc run` of the same configuration and seccomp profile.
func BenchmarkTrue(b *testing.B) {
	w := newWorld(b)
	runc, err := exec.LookPath("runc")
	if err != nil {
		b.Skip("needs runc (Debian: runc)")
	}
	bundle := w.bundle()
	var ours, theirs []time.Duration
	for b.Loop() {
		ours = append(ours, took(func() {
			r := w.request("", func(o *spec.Options, _ *supervisor.Request) { o.Args = []string{"true"} })
			w.wait(w.start(r))
			w.must(w.Delete(b.Context(), r.ID, false))
		}))
		theirs = append(theirs, took(func() {
			cmd := exec.Command(runc, "--root", filepath.Join(w.dir, "runc"), "run", "bench")
			cmd.Dir = bundle
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("runc: %v\n%s", err, out)
			}
		}))
	}
	b.ReportMetric(median(ours), "ms/sampan")
	b.ReportMetric(median(theirs), "ms/runc")
	b.ReportMetric(median(ours)/median(theirs), "sampan/runc")
}

// bundle is the same container for runc.
func (w *world) bundle() string {
	w.Helper()
	dir := filepath.Join(w.dir, "bundle")
	w.must(os.Mkdir(dir, 0o700))
	r := w.request("", func(o *spec.Options, _ *supervisor.Request) {
		o.Args, o.Cgroup = []string{"true"}, "/sampan-bench-runc"
	})
	profile, err := spec.DefaultProfile(r.Spec.Process.Capabilities.Bounding)
	w.must(err)
	r.Spec.Linux.Seccomp = profile
	config, err := json.Marshal(r.Spec)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	return dir
}

func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// BenchmarkMemory is what a running container costs in sampan-init, beside its own processes.
func BenchmarkMemory(b *testing.B) {
	w := newWorld(b)
	const n = 50
	id := w.start(w.request("exec sleep 1000"))
	before := w.resident()
	for b.Loop() {
		var ids []string
		for range n {
			ids = append(ids, w.start(w.request("exec sleep 1000")))
		}
		b.ReportMetric(float64(w.resident()-before)/n/1024, "KiB/container")
		b.ReportMetric(float64(before)/1024/1024, "MiB/first")
		for _, id := range ids {
			w.must(w.Delete(b.Context(), id, true))
		}
	}
	w.must(w.Delete(b.Context(), id, true))
}

// resident is the memory of sampan-init in bytes.
func (w *world) resident() int64 {
	w.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.Pid()))
	w.must(err)
	var size, pages int64
	_, err = fmt.Sscan(string(text), &size, &pages)
	w.must(err)
	return pages * int64(os.Getpagesize())
}
