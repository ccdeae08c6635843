package engine

import (
	"context"
	"sync"
	"time"
)

// A hub hands events to all who listen. Nobody misses one: each has a queue that grows while
// he is busy.
type hub struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
	closed    bool
}

type listener struct {
	queue []Event
	ready chan struct{} // has room for one
}

func newHub() *hub { return &hub{listeners: map[*listener]struct{}{}} }

func (h *hub) send(ev Event) {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		l.queue = append(l.queue, ev)
		l.wake()
	}
}

func (l *listener) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for l := range h.listeners {
		l.wake()
	}
}

// listen begins now: what is sent after it returned is heard.
func (h *hub) listen() *listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &listener{ready: make(chan struct{}, 1)}
	h.listeners[l] = struct{}{}
	return l
}

func (h *hub) leave(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
}

// each calls fn for all events until ctx ends, fn fails or the hub closes.
func (h *hub) each(ctx context.Context, l *listener, fn func(Event) error) error {
	for {
		h.mu.Lock()
		batch, closed := l.queue, h.closed
		l.queue = nil
		h.mu.Unlock()
		for _, ev := range batch {
			if err := fn(ev); err != nil {
				return err
			}
		}
		if closed {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ready:
		}
	}
}

// Events calls fn for each change from now on, in order, until ctx ends (whose error it
// returns), fn fails (whose error it returns) or the Engine closes.
func (e *Engine) Events(ctx context.Context, fn func(Event) error) error {
	l := e.hub.listen()
	defer e.hub.leave(l)
	return e.hub.each(ctx, l, fn)
}
