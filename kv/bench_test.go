package kv_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sampan.dev/sampan/kv"
)

// BenchmarkFirstRead is from nothing running to the first linearizable read.
func BenchmarkFirstRead(b *testing.B) {
	cfg := config(b, filepath.Join(b.TempDir(), "kv"))
	for b.Loop() {
		k, err := kv.Open(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := k.Client().Get(b.Context(), "any"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(resident(b), "MB-resident")
		if err := k.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkPut is a write that is synced to disk.
func BenchmarkPut(b *testing.B) {
	k := open(b, config(b, b.TempDir()))
	for b.Loop() {
		if _, err := k.Client().Put(b.Context(), "key", "value"); err != nil {
			b.Fatal(err)
		}
	}
}

// resident is this process's memory in megabytes.
func resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}
