package db

import (
	"context"
	"database/sql"
	"fmt"
)

// A Tx is a transaction in progress. It belongs to the one goroutine that runs fn.
type Tx struct {
	q      txQuerier
	failed error
	after  []func()
}

// txQuerier is the open transaction of an engine.
type txQuerier interface {
	query(ctx context.Context, query string, args []any) (*sql.Rows, error)
	exec(ctx context.Context, query string, args []any) (sql.Result, error)
	serialize(ctx context.Context, name string) error
}

// Query is DB.Query inside the transaction.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	if t.failed != nil {
		return nil, t.refuse()
	}
	rows, err := t.q.query(ctx, query, args)
	if err != nil {
		return nil, t.note(translate(err))
	}
	return &Rows{Rows: rows}, nil
}

// QueryRow is DB.QueryRow inside the transaction.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *Row {
	rows, err := t.Query(ctx, query, args...)
	return &Row{rows: rows, err: err, tx: t}
}

// Exec runs one statement inside the transaction.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if t.failed != nil {
		return nil, t.refuse()
	}
	res, err := t.q.exec(ctx, query, args)
	if err != nil {
		return nil, t.note(translate(err))
	}
	return res, nil
}

// Serialize makes other transactions that call it with the same name wait until this one
// ends, on all servers: numbers drawn in between commit in their order.
func (t *Tx) Serialize(ctx context.Context, name string) error {
	if t.failed != nil {
		return t.refuse()
	}
	if err := t.q.serialize(ctx, name); err != nil {
		return t.note(translate(err))
	}
	return nil
}

// AfterCommit runs fn once, soon after the transaction is durable, and not at all when it
// is rolled back. It must be quick: the caller of DB.Tx waits for it.
func (t *Tx) AfterCommit(fn func()) { t.after = append(t.after, fn) }

// note remembers the first failure: PostgreSQL has given the transaction up, and SQLite
// behaves likewise, so that the tests of one hold for the other.
func (t *Tx) note(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *Tx) refuse() error {
	return fmt.Errorf("the transaction has already failed: %w", t.failed)
}

// outcome is what decides between commit and rollback when fn has returned err.
func (t *Tx) outcome(err error) error {
	if err == nil && t.failed != nil {
		return t.refuse()
	}
	return err
}

func (t *Tx) committed() {
	for _, fn := range t.after {
		fn()
	}
}
