package db

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"

	"sampan.dev/sampan/internal/fault"
)

const createMigrations = `CREATE TABLE IF NOT EXISTS db_migration (
	slice TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL,
	applied BIGINT NOT NULL, PRIMARY KEY (slice, number))`

// A migration is one file, such as 0003_labels.sql.
type migration struct {
	number   int
	name     string
	text     string
	checksum string
}

// Migrate runs the files of a slice that have not been run, in one transaction. They are
// named 0001_what.sql, …, without a gap, and never change once released. {{id}} is the
// primary key with generated ids, {{bytes}} the type of byte strings.
func (d *DB) Migrate(ctx context.Context, slice string, files fs.FS) error {
	known, err := readMigrations(files)
	if err != nil {
		return fmt.Errorf("migrations of %s: %w", slice, err)
	}
	unlock, err := d.Lock(ctx, "db: migrate")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := d.Exec(ctx, createMigrations); err != nil {
		return fmt.Errorf("migrate %s: %w", slice, err)
	}
	return d.Tx(ctx, func(tx *Tx) error {
		applied, err := appliedMigrations(ctx, tx, slice)
		if err != nil {
			return fmt.Errorf("migrate %s: %w", slice, err)
		}
		if err := compare(slice, known, applied); err != nil {
			return err
		}
		for _, m := range known[len(applied):] {
			if err := d.apply(ctx, tx, slice, m); err != nil {
				return fmt.Errorf("migrate %s: %s: %w", slice, m.name, err)
			}
		}
		return nil
	})
}

func (d *DB) apply(ctx context.Context, tx *Tx, slice string, m migration) error {
	if _, err := tx.Exec(ctx, d.e.macros().Replace(m.text)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO db_migration (slice, number, name, checksum, applied) VALUES (?, ?, ?, ?, ?)`,
		slice, m.number, m.name, m.checksum, Now())
	return err
}

func appliedMigrations(ctx context.Context, q Querier, slice string) ([]migration, error) {
	rows, err := q.Query(ctx, `SELECT number, name, checksum FROM db_migration WHERE slice = ? ORDER BY number`, slice)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []migration
	for rows.Next() {
		var m migration
		if err := rows.Scan(&m.number, &m.name, &m.checksum); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, rows.Err()
}

// compare refuses a database that this program does not understand.
func compare(slice string, known, applied []migration) error {
	if len(applied) > len(known) {
		return fault.Conflict("the database is newer than this program: %s has migration %s, the last one known here is %d",
			slice, applied[len(applied)-1].name, len(known)).Try("start the newer version, or restore the backup made before the upgrade")
	}
	for i, m := range applied {
		if m.checksum != known[i].checksum {
			return fault.Conflict("migration %s of %s is not the one that made this database", known[i].name, slice).
				Try("a released migration never changes: put the file back and add a new one")
		}
	}
	return nil
}

func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	pattern := regexp.MustCompile(`^(\d{4})_[a-z0-9_-]+\.sql$`)
	var all []migration
	for i, name := range names {
		part := pattern.FindStringSubmatch(name)
		if part == nil {
			return nil, fmt.Errorf("%q is not named like 0001_what.sql", name)
		}
		if n, _ := strconv.Atoi(part[1]); n != i+1 {
			return nil, fmt.Errorf("%s should have number %04d", name, i+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
		sum := sha256.Sum256(text)
		all = append(all, migration{i + 1, name, string(text), hex.EncodeToString(sum[:])})
	}
	return all, nil
}
