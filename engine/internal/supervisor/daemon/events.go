//go:build cgo

package daemon

import (
	"net"
	"sync"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
)

// backlog is how many events a listener may lag behind before it is cut off. It then lists
// and listens anew, which tells it the same.
const backlog = 1024

// A hub passes events on. Its zero value is ready.
type hub struct {
	mu   sync.Mutex
	subs map[chan supervisor.Event]struct{}
}

func (h *hub) subscribe() chan supervisor.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	ch := make(chan supervisor.Event, backlog)
	if h.subs == nil {
		h.subs = map[chan supervisor.Event]struct{}{}
	}
	h.subs[ch] = struct{}{}
	return ch
}

// leave closes ch unless that has been done.
func (h *hub) leave(ch chan supervisor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subs[ch]; ok {
		delete(h.subs, ch)
		close(ch)
	}
}

func (h *hub) publish(e supervisor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.subs {
		select {
		case ch <- e:
		default:
			delete(h.subs, ch)
			close(ch)
		}
	}
}

// tell sends events to a caller until one of the two goes.
func (d *Daemon) tell(conn *net.UnixConn) error {
	ch := d.events.subscribe()
	defer d.events.leave(ch)
	if err := accept(conn, nil); err != nil {
		return nil
	}
	gone := d.hangup(conn)
	for {
		select {
		case e, ok := <-ch:
			if !ok || wire.WriteJSON(conn, wire.KindEvent, e) != nil {
				return nil
			}
		case <-gone:
			return nil
		case <-d.ctx.Done():
			return nil
		}
	}
}

// hangup is closed when the caller, who has nothing more to say, goes.
func (d *Daemon) hangup(conn *net.UnixConn) <-chan struct{} {
	gone := make(chan struct{})
	d.work.Go(func() {
		defer close(gone)
		var b [1]byte
		_, _ = conn.Read(b[:])
	})
	return gone
}
