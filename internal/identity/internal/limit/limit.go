// Package limit counts failures: each key may fail so often, and regains its chances
// evenly over a window. It keeps a bounded number of keys in memory.
package limit

import (
	"sync"
	"time"
)

const maxKeys = 20_000

// A Limiter is safe for concurrent use.
type Limiter struct {
	burst  float64
	window time.Duration

	mu   sync.Mutex
	keys map[string]bucket
}

type bucket struct {
	used float64
	at   time.Time
}

// New allows burst failures a window.
func New(burst int, window time.Duration) *Limiter {
	return &Limiter{burst: float64(burst), window: window, keys: map[string]bucket{}}
}

// Wait is how long there is no chance.
func (l *Limiter) Wait(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wait(l.now(key))
}

func (l *Limiter) wait(b bucket) time.Duration {
	return max(0, time.Duration((b.used-l.burst+1)/l.burst*float64(l.window)))
}

// Take uses one chance, before the outcome is known; wait is how long there is none.
func (l *Limiter) Take(key string) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.now(key)
	if wait := l.wait(b); wait > 0 {
		return wait
	}
	b.used++
	l.keys[key] = b
	l.shrink()
	return 0
}

// Refund gives a chance back: it was no failure.
func (l *Limiter) Refund(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.now(key)
	b.used = max(0, b.used-1)
	if b.used == 0 {
		delete(l.keys, key)
		return
	}
	l.keys[key] = b
}

// now is the bucket of key with what has been regained.
func (l *Limiter) now(key string) bucket {
	b, now := l.keys[key], time.Now()
	regained := now.Sub(b.at).Seconds() / l.window.Seconds() * l.burst
	return bucket{used: max(0, b.used-regained), at: now}
}

// shrink drops regained keys and, should that not do, any others.
func (l *Limiter) shrink() {
	if len(l.keys) <= maxKeys {
		return
	}
	for key := range l.keys {
		if l.now(key).used == 0 {
			delete(l.keys, key)
		}
	}
	for key := range l.keys {
		if len(l.keys) <= maxKeys/2 {
			return
		}
		delete(l.keys, key)
	}
}

// Len is how many keys are remembered.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keys)
}
