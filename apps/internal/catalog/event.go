package catalog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sampan.dev/sampan/internal/db"
)

// The levels of events.
const (
	Info  = "INFO"
	Error = "ERROR"
)

// keepEvents is how many events of an app are kept.
const keepEvents = 1000

// An Event is a line that Sampan itself writes to an app's log.
type Event struct {
	ID    int64
	Level string
	Text  string
	At    time.Time
}

// Note writes an event, and forgets the oldest when there are many.
func (c *Catalog) Note(ctx context.Context, q db.Querier, app int64, level, text string) error {
	var id int64
	err := q.QueryRow(ctx, `INSERT INTO apps_event (app_id, level, body, created) VALUES (?, ?, ?, ?) RETURNING id`,
		app, level, text, db.Now()).Scan(&id)
	if err != nil {
		return fmt.Errorf("note %q: %w", text, err)
	}
	if id%100 == 0 {
		_, err = q.Exec(ctx, `DELETE FROM apps_event WHERE app_id = ? AND id <= (
			SELECT id FROM apps_event WHERE app_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`, app, app, keepEvents)
	}
	return wrap(err, "prune events")
}

// Events lists the last events after an ID, oldest first.
func (c *Catalog) Events(ctx context.Context, app, after int64, limit int) ([]Event, error) {
	rows, err := c.db.Query(ctx, `SELECT id, level, body, created FROM apps_event WHERE app_id = ? AND id > ? ORDER BY id DESC LIMIT ?`,
		app, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	list, err := collect(rows, func(row scanner) (Event, error) {
		var e Event
		var at db.Time
		err := row.Scan(&e.ID, &e.Level, &e.Text, &at)
		e.At = at.Time
		return e, err
	})
	slices.Reverse(list)
	return list, err
}
