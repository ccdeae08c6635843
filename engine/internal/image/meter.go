package image

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress of what takes long, in Docker's words.
type Progress struct {
	ID     string // the first digits of a layer, or a tag; empty: it is about all
	Status string
	Done   int64 // bytes
	Total  int64 // bytes; zero: nothing is counted
	Pushed *Pushed
}

// Pushed is the end of a push.
type Pushed struct {
	Tag    string
	Digest string
	Size   int64 // of the manifest
}

// A meter tells how far the layers of a pull are. It speaks from one goroutine, so that
// whoever listens need not care for order.
type meter struct {
	blobs   content.Store
	notes   chan note
	ended   chan struct{}
	stopped sync.Once
}

// A note is something to say, or a layer to watch from here on, or not any more.
type note struct {
	Progress
	watch *ocispec.Descriptor
	leave digest.Digest
}

func newMeter(ctx context.Context, blobs content.Store, report func(Progress)) *meter {
	m := &meter{blobs: blobs, notes: make(chan note, 16), ended: make(chan struct{})}
	go m.run(ctx, report)
	return m
}

func (m *meter) run(ctx context.Context, report func(Progress)) {
	defer close(m.ended)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	watch := newWatch(m.blobs)
	for {
		select {
		case n, ok := <-m.notes:
			if !ok {
				return
			}
			if n.watch != nil {
				watch.layers = append(watch.layers, *n.watch)
			}
			if n.Status != "" {
				report(n.Progress)
			}
			if watch.drop(n.leave) {
				report(Progress{ID: short(n.leave), Status: "Download complete"})
			}
		case <-tick.C:
			watch.each(ctx, report)
		}
	}
}

func (m *meter) say(p Progress) { m.notes <- note{Progress: p} }

// stop waits until all is said. Nothing may be said after it.
func (m *meter) stop() {
	m.stopped.Do(func() { close(m.notes) })
	<-m.ended
}

// expecting announces the layers that a manifest names, unless all are here.
func (m *meter) expecting(children images.HandlerFunc) images.HandlerFunc {
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		found, err := children(ctx, desc)
		var notes []note
		fresh := false
		for _, child := range found {
			if !images.IsLayerType(child.MediaType) {
				continue
			}
			n := note{Progress: Progress{ID: short(child.Digest), Status: "Already exists"}}
			if _, err := m.blobs.Info(ctx, child.Digest); err != nil {
				n.Status, n.watch, fresh = "Pulling fs layer", &child, true
			}
			notes = append(notes, n)
		}
		for _, n := range notes {
			if fresh {
				m.notes <- n
			}
		}
		return found, err
	}
}

func (m *meter) fetched(desc ocispec.Descriptor) {
	if images.IsLayerType(desc.MediaType) {
		m.notes <- note{leave: desc.Digest}
	}
}

func (m *meter) extracting(layer ocispec.Descriptor, read int64, done bool) {
	if done {
		m.say(Progress{ID: short(layer.Digest), Status: "Pull complete"})
		return
	}
	m.say(Progress{ID: short(layer.Digest), Status: "Extracting", Done: read, Total: layer.Size})
}

// A watch looks at layers that are being fetched.
type watch struct {
	blobs  content.Store
	layers []ocispec.Descriptor
	waits  map[digest.Digest]bool // it was said that they wait
}

func newWatch(blobs content.Store) *watch {
	return &watch{blobs: blobs, waits: map[digest.Digest]bool{}}
}

func (w *watch) drop(d digest.Digest) bool {
	before := len(w.layers)
	w.layers = slices.DeleteFunc(w.layers, func(l ocispec.Descriptor) bool { return l.Digest == d })
	return len(w.layers) < before
}

// each tells how far all are.
func (w *watch) each(ctx context.Context, report func(Progress)) {
	if len(w.layers) == 0 {
		return
	}
	statuses, err := w.blobs.ListStatuses(ctx)
	if err != nil {
		return // the next tick asks again
	}
	under := map[string]content.Status{}
	for _, status := range statuses {
		under[status.Ref] = status
	}
	for _, layer := range w.layers {
		status, begun := under[remotes.MakeRefKey(ctx, layer)]
		switch {
		case begun && status.Offset > 0:
			report(Progress{ID: short(layer.Digest), Status: "Downloading", Done: status.Offset, Total: layer.Size})
		case !begun && !w.waits[layer.Digest]:
			w.waits[layer.Digest] = true
			report(Progress{ID: short(layer.Digest), Status: "Waiting"})
		}
	}
}

// short is how people see a digest.
func short(d digest.Digest) string {
	hex := d.Encoded()
	return hex[:min(12, len(hex))]
}
