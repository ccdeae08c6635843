// Package dbtest runs a test on both databases.
//
// PostgreSQL is started at most once a test process, from Debian's binaries, on a private
// socket in a temporary directory; each test gets a database of its own. Where it is not
// installed the test is skipped, unless CI=true. The server ends with the test process,
// however that ends.
package dbtest

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"sampan.dev/sampan/internal/db"
)

// shared is the one server of this process: a variable of the package, since tests come
// without a common parent.
var shared server

// Main is m.Run for a TestMain that wants the server gone before the process is.
func Main(m *testing.M) {
	code := m.Run()
	shared.stop()
	os.Exit(code)
}

// Each runs fn on SQLite and on PostgreSQL, each time with an empty database.
func Each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	EachURL(t, func(t *testing.T, url string) { fn(t, Open(t, url)) })
}

// EachURL is Each for a test that opens the database itself, perhaps twice.
func EachURL(t *testing.T, fn func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		fn(t, filepath.Join(t.TempDir(), "sampan.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		fn(t, Postgres(t))
	})
}

// SQLite opens an empty SQLite database, for tests that are about something else.
func SQLite(t testing.TB) *db.DB {
	return Open(t, filepath.Join(t.TempDir(), "sampan.db"))
}

// Open opens a database and closes it when the test ends.
func Open(t testing.TB, url string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return d
}

// Postgres makes an empty database and answers its URL.
func Postgres(t testing.TB) string {
	t.Helper()
	if err := shared.start(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	name, err := shared.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.drop(context.WithoutCancel(t.Context()), name); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + name, RawQuery: url.Values{"host": {shared.dir}}.Encode()}
	return u.String()
}
