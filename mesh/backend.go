package mesh

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialWithin     = 3 * time.Second
	idleConnection = time.Minute // kept to a backend without being used
	maxIdle        = 256         // kept to one backend
	avoidFor       = time.Second // a backend that refused is the last choice for so long

	// leavingBit is a bit above any count of requests: set once the backend must not be picked.
	leavingBit = int64(1) << 40
)

// A backend is an instance with what is in flight to it and its open connections.
type backend struct {
	Backend
	load    atomic.Int64 // requests in flight, plus leavingBit
	refused atomic.Int64 // when it last refused a connection, in Unix nanoseconds
	drained chan struct{}
	once    sync.Once

	mu   sync.Mutex
	free []*conn // the last used is the last
}

func newBackend(b Backend) *backend { return &backend{Backend: b, drained: make(chan struct{})} }

// acquire counts a request on the backend, unless it is leaving. The count comes first: who
// sets the bit afterwards sees the request.
func (b *backend) acquire() bool {
	if b.load.Add(1)&leavingBit == 0 {
		return true
	}
	b.release()
	return false
}

func (b *backend) release() {
	if b.load.Add(-1) == leavingBit {
		b.finish()
	}
}

// leave stops the picking; drained is closed when the last request is done.
func (b *backend) leave() {
	if b.load.Or(leavingBit)&^leavingBit == 0 {
		b.finish()
	}
}

func (b *backend) finish() {
	b.once.Do(func() {
		b.closeIdle(time.Now())
		close(b.drained)
	})
}

// idle says that the backend has left and is drained.
func (b *backend) idle() bool {
	select {
	case <-b.drained:
		return true
	default:
		return false
	}
}

func (b *backend) inFlight() int64 { return b.load.Load() &^ leavingBit }

// pick counts a request on the backend with the fewest in flight, avoiding those tried before
// and, while there are others, those that refused just now. nil: none is left.
func (r *route) pick(tried []*backend) *backend {
	for {
		b := r.least(tried)
		if b == nil || b.acquire() {
			return b
		}
		tried = append(tried, b) // it has left since the table was read
	}
}

func (r *route) least(tried []*backend) *backend {
	n := len(r.backends)
	if n == 1 && len(tried) == 0 {
		return r.backends[0]
	}
	var best, avoided *backend
	var bestLoad int64
	now := time.Now().UnixNano()
	for i, start := 0, rand.IntN(max(n, 1)); i < n; i++ {
		b := r.backends[(start+i)%n]
		load := b.load.Load()
		switch {
		case contains(tried, b):
		case now-b.refused.Load() < int64(avoidFor):
			avoided = b
		case best == nil || load < bestLoad:
			best, bestLoad = b, load
		}
	}
	if best == nil {
		return avoided
	}
	return best
}

func contains(list []*backend, b *backend) bool {
	for _, have := range list {
		if have == b {
			return true
		}
	}
	return false
}

// connect gives an idle connection that still lives, or a new one. careful: look even at one
// that was just used, for the request must not be sent twice.
func (b *backend) connect(ctx context.Context, careful bool) (*conn, error) {
	for {
		c := b.take()
		if c == nil {
			return b.dial(ctx)
		}
		if c.alive(careful) {
			return c, nil
		}
		c.Close()
	}
}

func (b *backend) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{Timeout: dialWithin, KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", b.Addr)
	if err != nil {
		if ctx.Err() == nil {
			b.refused.Store(time.Now().UnixNano())
		}
		return nil, err
	}
	return newConn(c), nil
}

func (b *backend) take() *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.free)
	if n == 0 {
		return nil
	}
	c := b.free[n-1]
	b.free[n-1] = nil
	b.free = b.free[:n-1]
	return c
}

// keep puts a connection back after a whole response. Its user still counts as in flight, so
// a backend that leaves closes it with the others at the end.
func (b *backend) keep(c *conn) {
	c.reused, c.since = true, time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) >= maxIdle {
		c.Close()
		return
	}
	b.free = append(b.free, c)
}

// closeIdle closes what has been idle since before that moment. The oldest are the first.
func (b *backend) closeIdle(before time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(b.free) && !b.free[n].since.After(before) {
		b.free[n].Close()
		n++
	}
	b.free = append(b.free[:0], b.free[n:]...)
}

// closeIdle does so for all backends.
func (m *Mesh) closeIdle(unused time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := time.Now().Add(-unused)
	for _, r := range m.routes {
		for _, b := range r.backends {
			b.closeIdle(before)
		}
	}
	for name := range m.leaving {
		m.leave(name, nil, nil)
	}
}
