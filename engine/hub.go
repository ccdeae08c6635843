package engine

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// A hub hands events to all who listen, and remembers the last ones. Nobody misses one: each
// has a queue that grows while he is busy.
type hub struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
	past      []Event // the oldest first
	closed    bool
}

const maxPast = 1024

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
	if len(h.past) >= maxPast {
		h.past = append(h.past[:0], h.past[maxPast/4:]...)
	}
	h.past = append(h.past, ev)
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
	return h.join()
}

// since begins with what is remembered from then on.
func (h *hub) since(then time.Time) *listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.join()
	for _, ev := range h.past {
		if !ev.Time.Before(then) {
			l.queue = append(l.queue, ev)
		}
	}
	l.wake()
	return l
}

// join adds a listener. The caller holds mu.
func (h *hub) join() *listener {
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

// Events calls fn for each change, in order, until ctx ends (whose error it returns), fn fails
// (whose error it returns) or the Engine closes. It begins with what is remembered since a
// time, or now when that is zero; ready is called when nothing more can be missed.
func (e *Engine) Events(ctx context.Context, since time.Time, ready func(), fn func(Event) error) error {
	if since.IsZero() {
		since = time.Now()
	}
	l := e.hub.since(since)
	defer e.hub.leave(l)
	ready()
	return e.hub.each(ctx, l, fn)
}

// report tells of a container. Attributes are names and values.
func (e *Engine) report(r record, action string, state State, attributes ...string) {
	ev := e.event(r, action, state)
	for i := 0; i+1 < len(attributes); i += 2 {
		ev.Attributes[attributes[i]] = attributes[i+1]
	}
	e.hub.send(ev)
}

func (e *Engine) event(r record, action string, state State) Event {
	return Event{
		Time: time.Now(), Type: "container", Action: action, ID: r.ID, Name: r.Name, Image: r.Spec.Image,
		Labels: r.Spec.Labels, State: state, Attributes: map[string]string{},
	}
}

// code is an exit code as an attribute of an event.
func code(x Exit) string { return strconv.Itoa(x.Code) }

// tell passes on err, or tells of what was done. Attributes are names and values.
func (e *Engine) tell(err error, kind, action, id, name string, attributes ...string) error {
	if err != nil {
		return err
	}
	ev := Event{Type: kind, Action: action, ID: id, Name: name, Attributes: map[string]string{}}
	for i := 0; i+1 < len(attributes); i += 2 {
		ev.Attributes[attributes[i]] = attributes[i+1]
	}
	e.hub.send(ev)
	return nil
}
