package engine_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/engine"
)

// BenchmarkContainer is the life of a container of `true` with a bridge, a published port and
// the default seccomp profile, beside `runc run` of the same with neither, in turns.
func BenchmarkContainer(b *testing.B) {
	e := fresh(b)
	ctx := b.Context()
	bundle := runcBundle(b)
	var ours, runcs, starts []time.Duration
	i := 0
	for b.Loop() {
		i++
		begin := time.Now()
		c, err := e.Create(ctx, engine.Spec{Image: "box", Command: []string{"true"}, Ports: []engine.Port{{Container: 80}}})
		if err == nil {
			err = e.Start(ctx, c.ID)
		}
		if err != nil {
			b.Fatal(err)
		}
		starts = append(starts, time.Since(begin))
		exit, err := e.Wait(ctx, c.ID)
		if err == nil {
			err = e.Remove(ctx, c.ID, engine.RemoveOptions{Volumes: true})
		}
		if err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
		ours = append(ours, time.Since(begin))
		if bundle == "" {
			continue
		}
		begin = time.Now()
		if out, err := exec.Command("runc", "run", "--bundle", bundle, fmt.Sprint("bench", os.Getpid(), "-", i)).CombinedOutput(); err != nil {
			b.Fatalf("runc: %v: %s", err, out)
		}
		runcs = append(runcs, time.Since(begin))
	}
	b.ReportMetric(median(ours), "ms/container")
	b.ReportMetric(median(starts), "ms/start")
	if len(runcs) > 0 {
		b.ReportMetric(median(runcs), "ms/runc")
		b.ReportMetric(median(ours)/median(runcs), "of-runc")
	}
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}

// runcBundle is the same program for runc, or empty where there is none.
func runcBundle(b *testing.B) string {
	if _, err := exec.LookPath("runc"); err != nil {
		b.Log("without Debian's package runc there is nothing to compare with")
		return ""
	}
	_, busybox := machine(b)
	dir := b.TempDir()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "rootfs", "bin"), 0o755))
	raw, err := os.ReadFile(busybox)
	must(err)
	must(os.WriteFile(filepath.Join(dir, "rootfs", "bin", "true"), raw, 0o755))
	cmd := exec.Command("runc", "spec")
	cmd.Dir = dir
	must(cmd.Run())
	raw, err = os.ReadFile(filepath.Join(dir, "config.json"))
	must(err)
	var spec map[string]any
	must(json.Unmarshal(raw, &spec))
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"/bin/true"}, false
	delete(process, "rlimits")
	raw, err = json.Marshal(spec)
	must(err)
	must(os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644))
	return dir
}

// BenchmarkMemory is what ten running containers cost beside their own.
func BenchmarkMemory(b *testing.B) {
	e := fresh(b)
	const many = 10
	start(b, e, engine.Spec{Image: "box", Command: []string{"sleep", "600"}}) // brings sampan-init
	for b.Loop() {
		before, processes := resident(b), family()
		var ids []string
		for range many {
			c := start(b, e, engine.Spec{Image: "box", Command: []string{"sleep", "600"}, Ports: []engine.Port{{Container: 80}}})
			ids = append(ids, c.ID)
		}
		b.ReportMetric(float64(resident(b)-before)/many/1024, "KiB/container")
		b.ReportMetric(float64(before)/(1<<20), "MiB/idle")
		b.ReportMetric(float64(family()-processes)/many-1, "helpers/container")
		for _, id := range ids {
			if err := e.Remove(b.Context(), id, engine.RemoveOptions{Force: true, Volumes: true}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// resident is the memory of this process and of its sampan-init, in bytes.
func resident(b *testing.B) int64 {
	debug.FreeOSMemory() // what the collector has not taken yet is not needed
	var sum int64
	for _, pid := range append([]string{"self"}, supervisors()...) {
		raw, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			var kib int64
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
				sum += kib << 10
			}
		}
	}
	return sum
}

// family counts the processes that come from this one and from its sampan-init.
func family() int {
	n := descendants("self")
	for _, pid := range supervisors() {
		n += 1 + descendants(pid)
	}
	return n
}

// descendants counts the processes that come from one, with those of the containers.
func descendants(pid string) (n int) {
	files, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, file := range files {
		raw, _ := os.ReadFile(file) // a thread that has ended has none
		for _, child := range strings.Fields(string(raw)) {
			n += 1 + descendants(child)
		}
	}
	return n
}

func supervisors() []string {
	var pids []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err == nil && strings.HasPrefix(string(raw), "sampan-init\x00serve") && strings.Contains(string(raw), os.TempDir()+"/Benchmark") {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}
