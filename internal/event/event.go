// Package event tells parts what happened in others: typed events that commit with the
// rows they are about, and reach every handler at least once, in order, also after a crash.
//
// An event lies in a table (a transactional outbox) until each handler's cursor has passed
// it. A handler that fails is called again with the same event, after a pause that grows,
// and holds up nobody but itself. Handlers must bear seeing an event twice. When several
// servers share a database, a handler runs on one of them at a time.
package event

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"sampan.dev/sampan/internal/db"
)

//go:embed migrations
var migrations embed.FS

// Config is what a Bus needs.
type Config struct {
	DB   *db.DB
	Log  *slog.Logger
	Keep time.Duration // how long events that all have seen stay readable; default one week
}

// A Type names the events that carry a T, such as "forge.Pushed".
type Type[T any] struct{ Name string }

// A Bus carries events. It is safe for concurrent use.
type Bus struct {
	db    *db.DB
	log   *slog.Logger
	keep  time.Duration
	start int64 // the last event before this process

	mu       sync.Mutex
	handlers []*handler
	running  bool
}

// Open makes the tables. Nothing is delivered before Run.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Keep == 0 {
		cfg.Keep = 7 * 24 * time.Hour
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := cfg.DB.Migrate(ctx, "event", files); err != nil {
		return nil, err
	}
	b := &Bus{db: cfg.DB, log: cfg.Log, keep: cfg.Keep}
	if err := cfg.DB.QueryRow(ctx, `SELECT COALESCE(MAX(id), 0) FROM event_outbox`).Scan(&b.start); err != nil {
		return nil, fmt.Errorf("open the events: %w", err)
	}
	return b, nil
}

// Close releases nothing yet; Run has ended by then.
func (b *Bus) Close() error { return nil }

// Emit records an event in the transaction of its cause.
func Emit[T any](ctx context.Context, b *Bus, tx *db.Tx, t Type[T], v T) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("emit %s: %w", t.Name, err)
	}
	return b.emit(ctx, tx, t.Name, body)
}

// On calls fn for each event of a type, from the first one after the handler became known.
// The name says what fn does; it identifies the handler from one start to the next. All
// handlers are registered before Run.
func On[T any](b *Bus, t Type[T], name string, fn func(context.Context, T) error) error {
	return b.add(t.Name, name, func(ctx context.Context, body []byte) error {
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return fmt.Errorf("read the event: %w", err)
		}
		return fn(ctx, v)
	})
}
