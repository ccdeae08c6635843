// Package meter remembers what apps used: requests, latency, CPU and memory of the last
// fifteen minutes, in memory.
//
// Every few seconds it asks the runner and the mesh about the apps that run. What a server
// remembers ends with it.
package meter

import (
	"context"
	"sync"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/controller"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/mesh"
)

const (
	// Step is the time between two samples.
	Step = 5 * time.Second
	// Window is how long samples are kept.
	Window  = 15 * time.Minute
	samples = int(Window / Step)
)

// A Sample is what an app did in one step.
type Sample struct {
	At       time.Time `json:"at"`
	Requests float64   `json:"requests"` // a second
	Errors   float64   `json:"errors"`   // a second
	P50      float64   `json:"p50"`      // milliseconds
	P95      float64   `json:"p95"`
	CPU      float64   `json:"cpu"` // cores
	Memory   int64     `json:"memory"`
}

// A Meter measures all apps. It is safe for concurrent use.
type Meter struct {
	Catalog    *catalog.Catalog
	Controller *controller.Controller
	Runner     runner.Runner
	Mesh       *mesh.Mesh

	mu   sync.Mutex
	apps map[int64]*series
}

// A series is what is remembered of one app.
type series struct {
	samples []Sample
	before  mesh.Stats
	cpu     map[string]time.Duration // by instance, at the last sample
	at      time.Time
}

// Run measures until ctx ends.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(Step)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			m.sample(ctx, now)
		case <-ctx.Done():
			return nil
		}
	}
}

// sample measures every app once. An app that cannot be measured has a gap.
func (m *Meter) sample(ctx context.Context, now time.Time) {
	apps, err := m.Catalog.Apps(ctx, "destroying = 0")
	if err != nil {
		return
	}
	seen := map[int64]bool{}
	for _, a := range apps {
		seen[a.ID] = true
		cpu, memory := m.usage(ctx, a)
		m.add(a.ID, now, m.Mesh.Stats(a.Name), cpu, memory)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.apps {
		if !seen[id] {
			delete(m.apps, id)
		}
	}
}

func (m *Meter) usage(ctx context.Context, a catalog.App) (cpu map[string]time.Duration, memory int64) {
	cpu = map[string]time.Duration{}
	for _, in := range m.Controller.Instances(a) {
		if in.State != formation.Up {
			continue
		}
		if s, err := m.Runner.Stats(ctx, in.ID); err == nil {
			cpu[in.Name] = s.CPU
			memory += s.Memory
		}
	}
	return cpu, memory
}

func (m *Meter) add(app int64, now time.Time, stats mesh.Stats, cpu map[string]time.Duration, memory int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.apps == nil {
		m.apps = map[int64]*series{}
	}
	s := m.apps[app]
	if s == nil {
		m.apps[app] = &series{before: stats, cpu: cpu, at: now}
		return
	}
	span := now.Sub(s.at).Seconds()
	var histogram mesh.Histogram
	for i := range histogram {
		histogram[i] = since(stats.Latency[i], s.before.Latency[i])
	}
	var used time.Duration
	for name, total := range cpu {
		used += max(total-s.cpu[name], 0)
	}
	s.samples = append(s.samples, Sample{
		At:       now,
		Requests: float64(since(stats.Requests, s.before.Requests)) / span,
		Errors:   float64(since(stats.Status[5], s.before.Status[5])) / span,
		P50:      float64(histogram.Quantile(0.5).Microseconds()) / 1000,
		P95:      float64(histogram.Quantile(0.95).Microseconds()) / 1000,
		CPU:      used.Seconds() / span,
		Memory:   memory,
	})
	if n := len(s.samples) - samples; n > 0 {
		s.samples = s.samples[n:]
	}
	s.before, s.cpu, s.at = stats, cpu, now
}

// since is what a counter grew by; it starts over when its route was made anew.
func since(now, before uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// Samples are those of an app, oldest first.
func (m *Meter) Samples(a catalog.App) []Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.apps[a.ID]
	if s == nil {
		return nil
	}
	return append([]Sample(nil), s.samples...)
}
