package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"

	"sampan.dev/sampan/internal/fault"
)

const (
	statements = 256              // prepared statements that are kept
	patience   = 30 * time.Second // waiting for the one writer
)

// sqliteDB is one connection that writes and a pool that cannot. In WAL mode readers see
// the last commit and never wait.
type sqliteDB struct {
	file    string
	writer  *sql.DB
	reader  *sql.DB
	reading *stmtCache

	mu    sync.Mutex
	locks map[string]chan struct{}
}

func openSQLite(ctx context.Context, file string) (engine, error) {
	if file == "" {
		return nil, errors.New("no file is named")
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	if err := createFile(file); err != nil {
		return nil, err
	}
	s := &sqliteDB{file: file, locks: map[string]chan struct{}{}}
	if s.writer, err = openPool(file, 1, "_txlock=immediate"); err != nil {
		return nil, err
	}
	if err := s.writer.PingContext(ctx); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	if s.reader, err = openPool(file, readers, "_query_only=1"); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	s.reading = newStmtCache(s.reader, statements)
	return s, nil
}

// createFile makes the file readable by its owner alone: it holds hashes and addresses.
func createFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // and not opened: closing it would drop the locks of this process
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func openPool(file string, conns int, param string) (*sql.DB, error) {
	pragmas := []string{
		"busy_timeout(10000)", // another process, such as a backup
		"journal_mode(WAL)",
		"synchronous(FULL)", // a commit is on the disk when it returns
		"foreign_keys(1)",
		"journal_size_limit(33554432)",
		"trusted_schema(0)",
	}
	u := url.URL{Scheme: "file", Path: file, RawQuery: "_dqs=0&" + param + "&_pragma=" + strings.Join(pragmas, "&_pragma=")}
	connector, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool, nil
}

func (s *sqliteDB) read(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	return s.reading.query(ctx, query, args)
}

func (s *sqliteDB) write(ctx context.Context, query string, args []any) (sql.Result, error) {
	conn, err := s.waitForWriter(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ExecContext(ctx, query, args...)
}

func (s *sqliteDB) writeRows(ctx context.Context, query string, args []any) (*sql.Rows, io.Closer, error) {
	conn, err := s.waitForWriter(ctx)
	if err != nil {
		return nil, nil, err
	}
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return rows, conn, nil
}

func (s *sqliteDB) tx(ctx context.Context, fn func(*Tx) error) error {
	conn, err := s.waitForWriter(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	t := &Tx{q: sqliteTx{tx}}
	if err := t.outcome(fn(t)); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	conn.Close() // the hooks may write
	t.committed()
	return nil
}

// waitForWriter does not wait for ever: a transaction inside a transaction is a bug that
// should be told and not hang.
func (s *sqliteDB) waitForWriter(ctx context.Context) (*sql.Conn, error) {
	waiting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	conn, err := s.writer.Conn(waiting)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, fault.Unavailable("the database has been busy for %v", patience).Try("try again in a minute")
		}
	}
	return conn, err
}

// lock needs no database: SQLite serves one server.
func (s *sqliteDB) lock(ctx context.Context, name string) (func(), error) {
	s.mu.Lock()
	l, ok := s.locks[name]
	if !ok {
		l = make(chan struct{}, 1)
		s.locks[name] = l
	}
	s.mu.Unlock()
	select {
	case l <- struct{}{}:
		return sync.OnceFunc(func() { <-l }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *sqliteDB) macros() *strings.Replacer {
	return strings.NewReplacer("{{id}}", "INTEGER PRIMARY KEY AUTOINCREMENT", "{{bytes}}", "BLOB")
}

func (s *sqliteDB) close() error {
	s.reading.close()
	return errors.Join(s.reader.Close(), s.writer.Close())
}

type sqliteTx struct{ tx *sql.Tx }

func (t sqliteTx) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, query, args...)
}

func (t sqliteTx) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	return t.tx.ExecContext(ctx, query, args...)
}

// serialize has nothing to do: there is one writer.
func (t sqliteTx) serialize(context.Context, string) error { return nil }
