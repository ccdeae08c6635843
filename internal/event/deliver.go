package event

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/internal/db"
)

const (
	batch     = 64
	firstWait = 100 * time.Millisecond
	longWait  = 5 * time.Minute
	loudAfter = 5 // failures, before an operator is told
)

// A handler is one reader of one type of events.
type handler struct {
	key    string // "forge.Pushed/start a build"
	typ    string
	call   func(ctx context.Context, body []byte) error
	signal chan struct{} // of size 1: there may be something to do
}

func (b *Bus) add(typ, name string, call func(context.Context, []byte) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &handler{key: typ + "/" + name, typ: typ, call: call, signal: make(chan struct{}, 1)}
	for _, other := range b.handlers {
		if other.key == h.key {
			return fmt.Errorf("two handlers of events are named %q", h.key)
		}
	}
	if b.running {
		return fmt.Errorf("the handler %q comes after Run has begun", h.key)
	}
	b.handlers = append(b.handlers, h)
	return nil
}

func (b *Bus) emit(ctx context.Context, tx *db.Tx, typ string, body []byte) error {
	if err := tx.Serialize(ctx, "event: emit"); err != nil {
		return fmt.Errorf("emit %s: %w", typ, err)
	}
	_, err := tx.Exec(ctx, `INSERT INTO event_outbox (type, body, at) VALUES (?, ?, ?)`, typ, string(body), db.Now())
	if err != nil {
		return fmt.Errorf("emit %s: %w", typ, err)
	}
	tx.AfterCommit(func() { b.wake(typ) })
	return nil
}

func (b *Bus) wake(typ string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.handlers {
		if h.typ == typ {
			h.wake()
		}
	}
}

func (h *handler) wake() {
	select {
	case h.signal <- struct{}{}:
	default: // one is waiting already
	}
}

// Run delivers until ctx ends.
func (b *Bus) Run(ctx context.Context) error {
	b.mu.Lock()
	b.running = true
	handlers := b.handlers
	b.mu.Unlock()
	if err := b.register(ctx, handlers); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range handlers {
		h.wake() // what was left before the last stop
		group.Go(func() error { return b.serve(ctx, h) })
	}
	group.Go(func() error { return b.pruneDaily(ctx, handlers) })
	return group.Wait()
}

// register gives new handlers a cursor: they hear what happens from this process on.
func (b *Bus) register(ctx context.Context, handlers []*handler) error {
	const upsert = `INSERT INTO event_cursor (handler, type, seen, used) VALUES (?, ?, ?, ?)
		ON CONFLICT (handler) DO UPDATE SET used = excluded.used`
	for _, h := range handlers {
		if _, err := b.db.Exec(ctx, upsert, h.key, h.typ, b.start, db.Now()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("register handler %s: %w", h.key, err)
		}
	}
	return nil
}

// serve sleeps until there is something to do, and then works until there is not.
func (b *Bus) serve(ctx context.Context, h *handler) error {
	wait, failures := firstWait, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.signal:
		}
		err := b.drain(ctx, h, func() { wait, failures = firstWait, 0 })
		if err == nil || ctx.Err() != nil {
			continue
		}
		failures++
		b.report(h, failures, wait, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, longWait)
		h.wake()
	}
}

func (b *Bus) report(h *handler, failures int, wait time.Duration, err error) {
	log := b.log.Warn
	if failures >= loudAfter {
		log = b.log.Error
	}
	log("an event was not handled and will be tried again", "handler", h.key, "failures", failures, "wait", wait, "err", err)
}

// drain delivers everything there is, while no other server works for the handler.
func (b *Bus) drain(ctx context.Context, h *handler, progress func()) error {
	unlock, err := b.db.Lock(ctx, "event: "+h.key)
	if err != nil {
		return err
	}
	defer unlock()
	for {
		events, err := b.pending(ctx, h)
		if err != nil || len(events) == 0 {
			return err
		}
		for _, e := range events {
			if err := b.deliver(ctx, h, e); err != nil {
				return err
			}
			progress()
		}
	}
}

type event struct {
	id   int64
	body string
}

func (b *Bus) pending(ctx context.Context, h *handler) ([]event, error) {
	const query = `SELECT id, body FROM event_outbox
		WHERE type = ? AND id > (SELECT seen FROM event_cursor WHERE handler = ?) ORDER BY id LIMIT ?`
	rows, err := b.db.Query(ctx, query, h.typ, h.key, batch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []event
	for rows.Next() {
		var e event
		if err := rows.Scan(&e.id, &e.body); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func (b *Bus) deliver(ctx context.Context, h *handler, e event) error {
	if err := protect(ctx, h, e); err != nil {
		return fmt.Errorf("event %d: %w", e.id, err)
	}
	// What has been done is taken down even when Run is being stopped.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	_, err := b.db.Exec(ctx, `UPDATE event_cursor SET seen = ? WHERE handler = ? AND seen < ?`, e.id, h.key, e.id)
	return err
}

// protect keeps the panic of one handler from ending the others.
func protect(ctx context.Context, h *handler, e event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("panic: %v", p), errors.New(string(debug.Stack())))
		}
	}()
	return h.call(ctx, []byte(e.body))
}
