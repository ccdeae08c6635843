package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/metadata"
)

// A collector frees what a deletion left without a reference. It sleeps until there was one:
// containerd's own scheduler wakes several times a second for ever.
type collector struct {
	db    *metadata.DB
	log   *slog.Logger
	dirty chan struct{}

	mu sync.Mutex // one collection at a time
}

// calm is how long after a deletion others are waited for, to be collected together.
const calm = time.Second

func newCollector(db *metadata.DB, log *slog.Logger) *collector {
	c := &collector{db: db, log: log, dirty: make(chan struct{}, 1)}
	db.RegisterMutationCallback(func(dirty bool) {
		if !dirty {
			return
		}
		select {
		case c.dirty <- struct{}{}:
		default:
		}
	})
	return c
}

func (c *collector) run(ctx context.Context) error {
	// What a crash left behind is found by the first collection.
	for {
		timer := time.NewTimer(calm)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := c.collect(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("images that nothing refers to could not be removed; the disk may fill", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.dirty:
		}
	}
}

func (c *collector) collect(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.db.GarbageCollect(ctx)
	return err
}

// Collect frees what nothing refers to, now.
func (s *Store) Collect(ctx context.Context) error { return s.collector.collect(s.Context(ctx)) }
