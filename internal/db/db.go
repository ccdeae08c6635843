// Package db is rows: one small door to SQLite (embedded, the default) and PostgreSQL.
//
// Statements are written once, in the SQL that both databases share, with ? as the
// placeholder. Times are BIGINT microseconds (Time), ids come from INSERT … RETURNING id.
// Tx is the way to write: SQLite has one writer, PostgreSQL runs it SERIALIZABLE and again
// when it lost a race, so both give the same promise: transactions happen one after the
// other, and one that returned nil survives a crash and power loss. After a failed statement
// a transaction can only be rolled back, on both. A DB is safe for concurrent use.
//
// A full disk is a fault.Full, a database that does not answer a fault.Unavailable.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Config says where the rows are.
type Config struct {
	URL string // a file path (SQLite) or postgres://…
	Log *slog.Logger
}

// A Querier is what DB and Tx have in common: a method that takes one works inside and
// outside of a transaction.
type Querier interface {
	Query(ctx context.Context, query string, args ...any) (*Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) *Row
	Exec(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// A DB is an open database.
type DB struct {
	e   engine
	url string
	log *slog.Logger
}

// An engine is what differs between the two databases.
type engine interface {
	read(ctx context.Context, query string, args []any) (*sql.Rows, error)
	write(ctx context.Context, query string, args []any) (sql.Result, error)
	writeRows(ctx context.Context, query string, args []any) (*sql.Rows, io.Closer, error)
	tx(ctx context.Context, fn func(*Tx) error) error
	lock(ctx context.Context, name string) (unlock func(), err error)
	macros() *strings.Replacer
	backup(ctx context.Context, file string) error
	close() error
}

// Open opens the database, and makes the file of SQLite the first time. It migrates nothing.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	open := openSQLite
	if isPostgres(cfg.URL) {
		open = openPostgres
	}
	e, err := open(ctx, cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", translate(err))
	}
	return &DB{e: e, url: cfg.URL, log: cfg.Log}, nil
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// Close ends all connections. Nothing may use d afterwards.
func (d *DB) Close() error { return d.e.close() }

// Query runs a statement that answers rows; the caller closes them.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	var rows *sql.Rows
	var conn io.Closer
	var err error
	if reads(query) {
		rows, err = d.e.read(ctx, query, args)
	} else {
		rows, conn, err = d.e.writeRows(ctx, query, args)
	}
	if err != nil {
		return nil, translate(err)
	}
	return &Rows{Rows: rows, conn: conn}, nil
}

// QueryRow runs a statement that answers at most one row. Its error waits for Scan.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) *Row {
	rows, err := d.Query(ctx, query, args...)
	return &Row{rows: rows, err: err}
}

// Exec runs one statement as a transaction of its own.
func (d *DB) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	res, err := d.e.write(ctx, query, args)
	return res, translate(err)
}

// Tx runs fn in a transaction and commits when fn returns nil. PostgreSQL may run fn more
// than once: what must happen once goes into AfterCommit. Inside fn only tx may write; d
// would wait for fn itself.
func (d *DB) Tx(ctx context.Context, fn func(*Tx) error) error {
	return translate(d.e.tx(ctx, fn))
}

// Lock holds the name for one caller at a time, over all servers that share the database,
// until unlock is called or the process dies.
func (d *DB) Lock(ctx context.Context, name string) (unlock func(), err error) {
	unlock, err = d.e.lock(ctx, name)
	return unlock, translate(err)
}

// Rows are sql.Rows whose errors are translated.
type Rows struct {
	*sql.Rows
	conn io.Closer // what they hold beside; may be nil
}

// Next goes to the next row, and closes the rows after the last one.
func (r *Rows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.release()
	return false
}

// Close ends the query.
func (r *Rows) Close() error { return errors.Join(r.Rows.Close(), r.release()) }

// release gives the connection back; the rows must be closed by then.
func (r *Rows) release() error {
	if r.conn == nil {
		return nil
	}
	conn := r.conn
	r.conn = nil
	return conn.Close()
}

// Scan reads the columns of the current row.
func (r *Rows) Scan(dest ...any) error { return translate(r.Rows.Scan(dest...)) }

// Err is why Next returned false, or nil at the end.
func (r *Rows) Err() error { return translate(r.Rows.Err()) }

// A Row is the answer of QueryRow.
type Row struct {
	rows *Rows
	err  error
	tx   *Tx
}

// Scan reads the columns; NotFound reports that there was no row.
func (r *Row) Scan(dest ...any) error {
	err := r.scan(dest)
	if r.tx != nil && err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r.tx.note(err)
	}
	return err
}

func (r *Row) scan(dest []any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Next() // runs the statement to its end: SQLite returns rows while it inserts
	return errors.Join(r.rows.Err(), r.rows.Close())
}
