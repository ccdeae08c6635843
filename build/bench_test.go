package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkOneLineChange measures what a warm build of a one-line change takes.
func BenchmarkOneLineChange(b *testing.B) {
	for _, where := range []struct {
		name string
		open func(testing.TB) place
	}{{"host", onHost}, {"container", inContainers}} {
		b.Run(where.name, func(b *testing.B) {
			p := where.open(b)
			cache := p.scope(b)
			tree := b.TempDir()
			if err := os.CopyFS(tree, os.DirFS("../examples/hello-go")); err != nil {
				b.Fatal(err)
			}
			var all []time.Duration
			change := func(n int) {
				text := fmt.Sprintf("package main\n\nvar change = %d\n", n)
				if err := os.WriteFile(filepath.Join(tree, "change.go"), []byte(text), 0o644); err != nil {
					b.Fatal(err)
				}
				begin := time.Now()
				if _, _, err := p.build(b, tree, cache, fmt.Sprintf("c%d", n)); err != nil {
					b.Fatal(err)
				}
				all = append(all, time.Since(begin))
			}
			change(-1)
			all = nil
			for b.Loop() {
				change(len(all))
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Milliseconds()), "ms/build-median")
		})
	}
}
