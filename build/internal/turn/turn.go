// Package turn lets those who want the same thing have it one after the other.
package turn

import (
	"context"
	"sync"
)

// Turns are locks by name. The zero value is ready; it is safe for concurrent use.
type Turns struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	free  chan struct{} // holds one token while nobody has the lock
	users int
}

// Take waits for the name's turn or the end of ctx. Who has taken it calls done.
func (t *Turns) Take(ctx context.Context, name string) (done func(), err error) {
	l := t.join(name)
	select {
	case <-l.free:
		return func() { l.free <- struct{}{}; t.leave(name) }, nil
	case <-ctx.Done():
		t.leave(name)
		return nil, ctx.Err()
	}
}

func (t *Turns) join(name string) *lock {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == nil {
		t.held = map[string]*lock{}
	}
	l := t.held[name]
	if l == nil {
		l = &lock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		t.held[name] = l
	}
	l.users++
	return l
}

func (t *Turns) leave(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[name].users--; t.held[name].users == 0 {
		delete(t.held, name)
	}
}
