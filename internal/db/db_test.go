package db_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/fault"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const createBoats = `CREATE TABLE boat (id {{id}}, name TEXT NOT NULL UNIQUE, oars BIGINT NOT NULL DEFAULT 1,
	afloat BOOLEAN NOT NULL DEFAULT TRUE, plan {{bytes}}, built BIGINT);`

func files(texts ...string) fstest.MapFS {
	fs := fstest.MapFS{}
	for i, text := range texts {
		fs[fmt.Sprintf("%04d_step.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

func boats(t *testing.T, d *db.DB) {
	t.Helper()
	if err := d.Migrate(t.Context(), "boats", files(createBoats)); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, q db.Querier) (n int) {
	t.Helper()
	if err := q.QueryRow(t.Context(), "SELECT count(*) FROM boat").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestARowComesBackAsItWasWritten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boats(t, d)
		ctx, now := t.Context(), db.Now()
		var id int64
		err := d.QueryRow(ctx, `INSERT INTO boat (name, oars, afloat, plan, built) VALUES (?, ?, ?, ?, ?) RETURNING id`,
			"what's a sampan?", 1<<40, false, []byte{0, 1, 255}, now).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		var name string
		var oars int64
		var afloat bool
		var plan []byte
		var built db.Time
		err = d.QueryRow(ctx, `SELECT name, oars, afloat, plan, built FROM boat WHERE id = ? AND name <> '?'`, id).
			Scan(&name, &oars, &afloat, &plan, &built)
		if err != nil {
			t.Fatal(err)
		}
		if name != "what's a sampan?" || oars != 1<<40 || afloat || string(plan) != "\x00\x01\xff" || !built.Equal(now.Time) {
			t.Errorf("read %q %d %v %x %v", name, oars, afloat, plan, built)
		}
		if _, err := d.Exec(ctx, `UPDATE boat SET built = ?`, db.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := d.QueryRow(ctx, `SELECT built FROM boat`).Scan(&built); err != nil || !built.IsZero() {
			t.Errorf("the zero time came back as %v, %v", built, err)
		}
	})
}

func TestErrorsAreTold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boats(t, d)
		ctx := t.Context()
		if err := d.QueryRow(ctx, "SELECT name FROM boat").Scan(new(string)); !db.NotFound(err) {
			t.Errorf("no row: %v", err)
		}
		for i := range 2 {
			_, err := d.Exec(ctx, "INSERT INTO boat (name) VALUES ('a')")
			if db.Unique(err) != (i == 1) {
				t.Errorf("insert %d: %v", i, err)
			}
		}
		err := d.QueryRow(ctx, "INSERT INTO boat (name) VALUES ('a') RETURNING id").Scan(new(int64))
		if !db.Unique(err) {
			t.Errorf("insert with RETURNING: %v", err)
		}
		refs := files(createBoats, "CREATE TABLE crew (boat BIGINT NOT NULL REFERENCES boat (id))")
		if err := d.Migrate(ctx, "boats", refs); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Exec(ctx, "INSERT INTO crew (boat) VALUES (99)"); !db.Referenced(err) {
			t.Errorf("a crew without a boat: %v", err)
		}
	})
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boats(t, d)
		ctx, broken := t.Context(), errors.New("broken")
		hooks := 0
		add := func(end error, names ...string) error {
			return d.Tx(ctx, func(tx *db.Tx) error {
				tx.AfterCommit(func() { hooks++ })
				for _, name := range names {
					if _, err := tx.Exec(ctx, "INSERT INTO boat (name) VALUES (?)", name); err != nil {
						return err
					}
				}
				return end
			})
		}
		if err := add(broken, "a", "b"); !errors.Is(err, broken) || count(t, d) != 0 || hooks != 0 {
			t.Errorf("rolled back: %v, %d rows, %d hooks", err, count(t, d), hooks)
		}
		if err := add(nil, "a", "b"); err != nil || count(t, d) != 2 || hooks != 1 {
			t.Errorf("committed: %v, %d rows, %d hooks", err, count(t, d), hooks)
		}
		if err := add(nil, "c", "a"); !db.Unique(err) || count(t, d) != 2 {
			t.Errorf("a double: %v, %d rows", err, count(t, d))
		}
	})
}

func TestAFailedStatementEndsTheTransaction(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boats(t, d)
		ctx := t.Context()
		err := d.Tx(ctx, func(tx *db.Tx) error {
			for range 2 {
				tx.Exec(ctx, "INSERT INTO boat (name) VALUES ('a')")
			}
			if err := tx.QueryRow(ctx, "SELECT 1").Scan(new(int)); err == nil {
				t.Error("a statement ran after the failure")
			}
			return nil
		})
		if !db.Unique(err) || count(t, d) != 0 {
			t.Errorf("commit of a failed transaction: %v, %d rows", err, count(t, d))
		}
	})
}

func TestTransactionsAtOnceLoseNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boats(t, d)
		ctx := t.Context()
		if _, err := d.Exec(ctx, "INSERT INTO boat (name, oars) VALUES ('a', 0)"); err != nil {
			t.Fatal(err)
		}
		const workers, each = 4, 10
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for range each {
					if err := addOar(ctx, d); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		var oars int
		if err := d.QueryRow(ctx, "SELECT oars FROM boat").Scan(&oars); err != nil || oars != workers*each {
			t.Errorf("%d oars, %v", oars, err)
		}
	})
}

// addOar reads and then writes: without serializable transactions updates would be lost.
func addOar(ctx context.Context, d *db.DB) error {
	return d.Tx(ctx, func(tx *db.Tx) error {
		var oars int
		if err := tx.QueryRow(ctx, "SELECT oars FROM boat WHERE name = 'a'").Scan(&oars); err != nil {
			return fmt.Errorf("wrapped: %w", err)
		}
		_, err := tx.Exec(ctx, "UPDATE boat SET oars = ? WHERE name = 'a'", oars+1)
		return err
	})
}

func TestAHookMayWrite(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		boats(t, d)
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		err := d.Tx(ctx, func(tx *db.Tx) error {
			tx.AfterCommit(func() {
				if _, err := d.Exec(ctx, "INSERT INTO boat (name) VALUES ('hook')"); err != nil {
					t.Error(err)
				}
			})
			return nil
		})
		if err != nil || count(t, d) != 1 {
			t.Errorf("%v, %d rows", err, count(t, d))
		}
	})
}

func TestALockHasOneHolder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		unlock, err := d.Lock(t.Context(), "pilot")
		if err != nil {
			t.Fatal(err)
		}
		impatient, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		if _, err := d.Lock(impatient, "pilot"); err == nil {
			t.Error("the lock was given twice")
		}
		other, err := d.Lock(t.Context(), "cook")
		if err != nil {
			t.Fatal(err)
		}
		other()
		unlock()
		again, err := d.Lock(t.Context(), "pilot")
		if err != nil {
			t.Fatal(err)
		}
		again()
	})
}

func TestMigrationsRunOnce(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		ctx := t.Context()
		second := "ALTER TABLE boat ADD COLUMN sail TEXT;\n-- two statements; one file\nINSERT INTO boat (name) VALUES ('first');"
		for range 2 { // a restart
			d := dbtest.Open(t, url)
			if err := d.Migrate(ctx, "boats", files(createBoats, second)); err != nil {
				t.Fatal(err)
			}
			if n := count(t, d); n != 1 {
				t.Errorf("%d boats", n)
			}
		}
		d := dbtest.Open(t, url)
		for _, test := range []struct {
			what, say string
			files     fstest.MapFS
		}{
			{"a changed file", "is not the one that made this database", files(createBoats+" ", second)},
			{"an older program", "newer than this program", files(createBoats)},
			{"a gap", "should have number 0001", fstest.MapFS{"0002_x.sql": {}}},
			{"a strange name", "is not named like", fstest.MapFS{"x.sql": {}}},
			{"a broken file", "0003_step.sql", files(createBoats, second, "CREATE TABLE half (id {{id}}); CREATE NONSENSE")},
		} {
			err := d.Migrate(ctx, "boats", test.files)
			if err == nil || !strings.Contains(err.Error(), test.say) {
				t.Errorf("%s: %v", test.what, err)
			}
		}
		if _, err := d.Exec(ctx, "SELECT 1 FROM half"); err == nil {
			t.Error("a broken migration left a table")
		}
	})
}

func TestABackupIsRestoredElsewhere(t *testing.T) {
	restoreInto := map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "restored.db") },
		"postgres": func(t *testing.T) string { return dbtest.Postgres(t) },
	}
	dbtest.EachURL(t, func(t *testing.T, url string) {
		ctx, file := t.Context(), filepath.Join(t.TempDir(), "backup")
		d := dbtest.Open(t, url)
		boats(t, d)
		if _, err := d.Exec(ctx, "INSERT INTO boat (name) VALUES ('a')"); err != nil {
			t.Fatal(err)
		}
		if err := d.Backup(ctx, file); err != nil {
			t.Fatal(err)
		}
		target := restoreInto["sqlite"](t)
		if strings.HasPrefix(url, "postgres:") {
			target = restoreInto["postgres"](t)
		}
		if err := db.Restore(ctx, db.Config{URL: target}, file); err != nil {
			t.Fatal(err)
		}
		restored := dbtest.Open(t, target)
		boats(t, restored)
		if n := count(t, restored); n != 1 {
			t.Errorf("%d boats after the restore", n)
		}
		if err := db.Restore(ctx, db.Config{URL: target}, file); !fault.Is(err, fault.KindConflict) {
			t.Errorf("restore over a database: %v", err)
		}
	})
}

func TestAFullDiskIsSaidAndSurvived(t *testing.T) {
	d := dbtest.SQLite(t)
	boats(t, d)
	ctx := t.Context()
	if _, err := d.Exec(ctx, "PRAGMA max_page_count = 50"); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		_, err = d.Exec(ctx, "INSERT INTO boat (name, plan) VALUES (?, ?)", fmt.Sprint(i), make([]byte, 4096))
	}
	if !fault.Is(err, fault.KindFull) {
		t.Fatalf("a full disk: %v", err)
	}
	before := count(t, d)
	if _, err := d.Exec(ctx, "DELETE FROM boat WHERE id % 2 = 0"); err != nil || count(t, d) >= before {
		t.Errorf("after the disk was full: %v", err)
	}
}
