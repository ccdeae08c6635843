package event

import (
	"context"
	"time"

	"sampan.dev/sampan/internal/db"
)

// forgotten is how long no start has registered a handler before its cursor counts as
// that of a program that is gone.
const forgotten = 60 * 24 * time.Hour

func (b *Bus) pruneDaily(ctx context.Context, handlers []*handler) error {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		if err := b.Prune(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("old events were not deleted", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-day.C:
		}
		if err := b.register(ctx, handlers); err != nil {
			b.log.Warn("handlers were not kept registered", "err", err)
		}
	}
}

// Prune deletes what is old and has been dealt with by every handler of its
// type. Run does it once a day.
func (b *Bus) Prune(ctx context.Context) error {
	now := time.Now()
	return b.db.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM event_cursor WHERE used < ?`, db.At(now.Add(-forgotten))); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM event_outbox WHERE at < ? AND NOT EXISTS
			(SELECT 1 FROM event_cursor c WHERE c.type = event_outbox.type AND c.seen < event_outbox.id)`,
			db.At(now.Add(-b.keep)))
		return err
	})
}
