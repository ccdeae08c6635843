package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// Backup writes a consistent copy of the database to a new file while others go on writing:
// a SQLite database, or an archive of pg_dump in its custom format.
func (d *DB) Backup(ctx context.Context, file string) error {
	part := file + ".part"
	defer os.Remove(part)
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	if err := d.e.backup(ctx, part); err != nil {
		return fmt.Errorf("backup: %w", translate(err))
	}
	if err := publish(part, file); err != nil {
		return fmt.Errorf("backup: %w", translate(err))
	}
	return nil
}

// Restore fills an empty database from what Backup wrote. Nobody may have it open.
func Restore(ctx context.Context, cfg Config, file string) error {
	restore := restoreSQLite
	if isPostgres(cfg.URL) {
		restore = restorePostgres
	}
	if err := restore(ctx, cfg.URL, file); err != nil {
		return fmt.Errorf("restore the database: %w", translate(err))
	}
	return nil
}

// publish makes a finished file durable and gives it its name.
func publish(part, file string) error {
	for _, sync := range []func() error{
		func() error { return syncPath(part) },
		func() error { return os.Rename(part, file) },
		func() error { return syncPath(filepath.Dir(file)) },
	} {
		if err := sync(); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (s *sqliteDB) backup(ctx context.Context, file string) error {
	conn, err := openPool(s.file, 1, "_txlock=deferred")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := createFile(file); err != nil { // readable by its owner alone
		return err
	}
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", file)
	return err
}

func restoreSQLite(ctx context.Context, target, file string) error {
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(notEmpty(target), err)
	}
	part := target + ".part"
	defer os.Remove(part)
	if err := copyFile(file, part); err != nil {
		return err
	}
	if err := checkSQLite(ctx, part); err != nil {
		return fault.Invalid("%s is not a whole database: %w", file, err).Try("use another backup")
	}
	return publish(part, target)
}

func notEmpty(target string) error {
	return fault.Conflict("there is a database already: %s", target).Try("restore into an empty data directory")
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// checkSQLite reads every page. It must not leave a write-ahead log beside the file.
func checkSQLite(ctx context.Context, file string) error {
	pool, err := openPool(file, 1, "_txlock=immediate")
	if err != nil {
		return err
	}
	defer pool.Close()
	var verdict string
	if err := pool.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	return nil
}

func (p *postgresDB) backup(ctx context.Context, file string) error {
	if err := createFile(file); err != nil {
		return err
	}
	return runTool(ctx, p.url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--file="+file)
}

func restorePostgres(ctx context.Context, target, file string) error {
	e, err := openPostgres(ctx, target)
	if err != nil {
		return err
	}
	defer e.close()
	var tables int
	const count = `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()`
	if err := e.(*postgresDB).pool.QueryRowContext(ctx, count).Scan(&tables); err != nil {
		return err
	}
	if tables > 0 {
		return notEmpty("PostgreSQL holds tables")
	}
	return runTool(ctx, target, "pg_restore", "--single-transaction", "--no-owner", "--no-privileges", "--exit-on-error", file)
}

// runTool runs one of PostgreSQL's programs. The password travels in the environment: any
// user of the machine can read the arguments of a process.
func runTool(ctx context.Context, address, name string, args ...string) error {
	program, err := findTool(name)
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = os.Environ()
	if password, ok := u.User.Password(); ok {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
		u.User = url.User(u.User.Username())
	}
	cmd.Args = append([]string{name, "--dbname=" + u.String()}, args...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if strings.Contains(string(out), "No space left on device") {
		return fault.Full("%s: the disk is full: %w", name, err).Try("make room and try again")
	}
	return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
}

// findTool also looks where Debian keeps the programs of each version, newest first.
func findTool(name string) (string, error) {
	if program, err := exec.LookPath(name); err == nil {
		return program, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return "", fault.Unavailable("%s is not installed", name).Try("install the PostgreSQL client programs (Debian: postgresql-client)")
	}
	return found[len(found)-1], nil
}
