package db

import (
	"database/sql"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"sampan.dev/sampan/internal/fault"
)

// NotFound reports that QueryRow found no row.
func NotFound(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// Unique reports that a row with this key exists already.
func Unique(err error) bool {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return true
	}
	return postgresCode(err) == "23505"
}

// Referenced reports a broken foreign key: the row that is named does not exist, or the
// row that is deleted is still named.
func Referenced(err error) bool {
	return sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY || postgresCode(err) == "23503"
}

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func postgresCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// translate makes what a user can act upon a fault; the driver's error stays in its chain.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.Of(err); ok {
		return err
	}
	switch {
	case full(err):
		return fault.Full("the disk of the database is full: %w", err).Try("make room and try again; nothing that was acknowledged is lost")
	case away(err):
		return fault.Unavailable("the database does not answer: %w", err).Try("try again in a minute")
	case postgresCode(err) == "22021": // of a NUL or invalid UTF-8; SQLite would keep it
		return fault.Invalid("the text holds characters that cannot be stored: %w", err)
	case sqliteCode(err)&0xff == sqlite3.SQLITE_BUSY:
		return fault.Unavailable("the database is in use by another program: %w", err).Try("try again in a minute")
	}
	return err
}

func full(err error) bool {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE:
		return true
	}
	return postgresCode(err) == "53100" || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// away reports that PostgreSQL is stopped, restarting or out of connections.
func away(err error) bool {
	switch code := postgresCode(err); code {
	case "57P01", "57P02", "57P03", "53300":
		return true
	default:
		if len(code) == 5 && code[:2] == "08" {
			return true
		}
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network)
}

// again reports that PostgreSQL undid a transaction only because of another one.
func again(err error) bool {
	switch postgresCode(err) {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "0A000": // another server has migrated; the statement is prepared anew
		return strings.Contains(err.Error(), "cached plan")
	}
	return false
}
