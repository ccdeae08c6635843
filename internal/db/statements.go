package db

import (
	"container/list"
	"context"
	"database/sql"
	"sync"
)

// A stmtCache keeps the statements used last prepared: parsing costs SQLite more than
// running a small one. One in use is closed when its last user is done with it.
type stmtCache struct {
	pool *sql.DB
	size int

	mu     sync.Mutex
	byText map[string]*list.Element // of *prepared
	recent *list.List               // most recently used first
}

type prepared struct {
	text    string
	stmt    *sql.Stmt
	users   int
	evicted bool
}

func newStmtCache(pool *sql.DB, size int) *stmtCache {
	return &stmtCache{pool: pool, size: size, byText: map[string]*list.Element{}, recent: list.New()}
}

func (c *stmtCache) query(ctx context.Context, text string, args []any) (*sql.Rows, error) {
	p, err := c.acquire(ctx, text)
	if err != nil {
		return nil, err
	}
	defer c.release(p) // open rows hold the statement themselves
	return p.stmt.QueryContext(ctx, args...)
}

func (c *stmtCache) acquire(ctx context.Context, text string) (*prepared, error) {
	if p := c.find(text); p != nil {
		return p, nil
	}
	stmt, err := c.pool.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return c.add(text, stmt), nil
}

func (c *stmtCache) find(text string) *prepared {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byText[text]
	if !ok {
		return nil
	}
	c.recent.MoveToFront(el)
	p := el.Value.(*prepared)
	p.users++
	return p
}

// add keeps the statement, and another one with the same text that was faster.
func (c *stmtCache) add(text string, stmt *sql.Stmt) *prepared {
	p := &prepared{text: text, stmt: stmt, users: 1}
	c.mu.Lock()
	if _, ok := c.byText[text]; ok {
		p.evicted = true
		c.mu.Unlock()
		return p
	}
	c.byText[text] = c.recent.PushFront(p)
	var idle *prepared
	if c.recent.Len() > c.size {
		idle = c.evict(c.recent.Back())
	}
	c.mu.Unlock()
	if idle != nil {
		idle.stmt.Close()
	}
	return p
}

// evict answers the statement when nobody uses it: the caller closes it without the lock.
func (c *stmtCache) evict(el *list.Element) *prepared {
	p := c.recent.Remove(el).(*prepared)
	delete(c.byText, p.text)
	p.evicted = true
	if p.users > 0 {
		return nil
	}
	return p
}

func (c *stmtCache) release(p *prepared) {
	c.mu.Lock()
	p.users--
	last := p.evicted && p.users == 0
	c.mu.Unlock()
	if last {
		p.stmt.Close()
	}
}

func (c *stmtCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for el := c.recent.Front(); el != nil; el = el.Next() {
		el.Value.(*prepared).stmt.Close()
	}
	c.recent.Init()
	clear(c.byText)
}
