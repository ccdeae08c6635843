// Package catalog keeps the records of apps: apps, configurations, builds, releases,
// domains and what happened to them.
//
// An app has a name that is also its host, and a key, its row's number, that is never used
// again. Configurations and releases never change once written but for a release's state;
// releases are numbered from 1 in each app without gaps. Values of a configuration are
// sealed. A method that writes is one transaction; those that take a db.Querier work inside
// the caller's. Permission is not checked here. A Catalog is safe for concurrent use.
package catalog

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/secret"
)

//go:embed migrations
var migrations embed.FS

// A Catalog reads and writes the records.
type Catalog struct {
	db  *db.DB
	box *secret.Box
}

// Open migrates the tables.
func Open(ctx context.Context, d *db.DB, box *secret.Box) (*Catalog, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := d.Migrate(ctx, "apps", files); err != nil {
		return nil, fmt.Errorf("migrate apps: %w", err)
	}
	return &Catalog{db: d, box: box}, nil
}

// DB is where the records are, for transactions of the caller.
func (c *Catalog) DB() *db.DB { return c.db }

// An App is a name under which releases run.
type App struct {
	ID         int64
	UUID       string
	Name       string
	Owner      int64
	Repo       int64 // 0: the app has a remote of its own
	RepoPath   string
	Branch     string
	Destroying bool
	Created    time.Time
	Updated    time.Time
}

// Key names the app in the key-value store and to runners.
func (a App) Key() string { return Key(a.ID) }

// Key is the key of the app in row id.
func Key(id int64) string { return strconv.FormatInt(id, 10) }

const appColumns = `id, uuid, name, owner_id, repo_id, repo_path, branch, destroying, created, updated`

type scanner interface{ Scan(dest ...any) error }

func scanApp(row scanner) (App, error) {
	var a App
	var created, updated db.Time
	var destroying int64
	err := row.Scan(&a.ID, &a.UUID, &a.Name, &a.Owner, &a.Repo, &a.RepoPath, &a.Branch, &destroying, &created, &updated)
	a.Destroying, a.Created, a.Updated = destroying != 0, created.Time, updated.Time
	return a, err
}

// App finds an app by its name.
func (c *Catalog) App(ctx context.Context, name string) (App, error) {
	a, err := scanApp(c.db.QueryRow(ctx, `SELECT `+appColumns+` FROM apps_app WHERE name = ? AND destroying = 0`, name))
	if db.NotFound(err) {
		return App{}, noApp()
	}
	if err != nil {
		return App{}, fmt.Errorf("load app %q: %w", name, err)
	}
	return a, nil
}

// AppByID finds an app by its row, also one that is being destroyed.
func (c *Catalog) AppByID(ctx context.Context, id int64) (App, error) {
	a, err := scanApp(c.db.QueryRow(ctx, `SELECT `+appColumns+` FROM apps_app WHERE id = ?`, id))
	if db.NotFound(err) {
		return App{}, noApp()
	}
	if err != nil {
		return App{}, fmt.Errorf("load app %d: %w", id, err)
	}
	return a, nil
}

// noApp has the sentence that clients of the controller API know.
func noApp() error { return fault.NotFound("No App matches the given query.") }

// Apps lists the apps for which condition, on the columns of apps_app, holds, by name.
func (c *Catalog) Apps(ctx context.Context, condition string, args ...any) ([]App, error) {
	rows, err := c.db.Query(ctx, `SELECT `+appColumns+` FROM apps_app WHERE `+condition+` ORDER BY name`, args...)
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	defer rows.Close()
	var list []App
	for rows.Next() {
		a, err := scanApp(rows)
		if err != nil {
			return nil, fmt.Errorf("list apps: %w", err)
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// Owned counts the apps of an owner.
func Owned(ctx context.Context, q db.Querier, owner int64) (n int, err error) {
	err = q.QueryRow(ctx, `SELECT COUNT(*) FROM apps_app WHERE owner_id = ?`, owner).Scan(&n)
	return n, err
}

// Create makes an app with an empty configuration, its first release and its log's beginning.
// host is where it answers by itself, which nobody else may have as a domain.
func (c *Catalog) Create(ctx context.Context, name, host string, owner int64, author string) (App, error) {
	now := db.Now()
	a := App{UUID: NewUUID(), Name: name, Owner: owner, Created: now.Time, Updated: now.Time}
	err := c.db.Tx(ctx, func(tx *db.Tx) error {
		if err := c.hostFree(ctx, tx, name, host); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `INSERT INTO apps_app (uuid, name, owner_id, repo_id, repo_path, branch, destroying, created, updated)
			VALUES (?, ?, ?, 0, '', '', 0, ?, ?) RETURNING id`, a.UUID, name, owner, now, now).Scan(&a.ID)
		if db.Unique(err) {
			return fault.Conflict("Application with this id already exists.").Try("choose another name").On("id")
		}
		if err != nil {
			return fmt.Errorf("create app: %w", err)
		}
		cfg, err := c.insertConfig(ctx, tx, a, author, Settings{})
		if err != nil {
			return err
		}
		if _, err := c.AddRelease(ctx, tx, a, author, 0, cfg.ID, author+" created initial release"); err != nil {
			return err
		}
		for _, text := range []string{
			fmt.Sprintf("config %s-%s updated", name, cfg.UUID[:7]), author + " created initial release",
			fmt.Sprintf("appsettings %s-%s updated", name, a.UUID[:7]), fmt.Sprintf("domain %s added", name),
		} {
			if err := c.Note(ctx, tx, a.ID, Info, text); err != nil {
				return err
			}
		}
		return nil
	})
	return a, err
}

// Link makes the app follow a branch of a repository, or with repo 0 its own remote again.
func (c *Catalog) Link(ctx context.Context, app, repo int64, path, branch string) error {
	_, err := c.db.Exec(ctx, `UPDATE apps_app SET repo_id = ?, repo_path = ?, branch = ?, updated = ? WHERE id = ?`,
		repo, path, branch, db.Now(), app)
	return wrap(err, "link app %d", app)
}

// SetOwner hands the app over.
func (c *Catalog) SetOwner(ctx context.Context, app, owner int64) error {
	_, err := c.db.Exec(ctx, `UPDATE apps_app SET owner_id = ?, updated = ? WHERE id = ?`, owner, db.Now(), app)
	return wrap(err, "hand over app %d", app)
}

// Destroying marks an app whose instances are being freed; its name answers no more.
func (c *Catalog) Destroying(ctx context.Context, app int64) error {
	_, err := c.db.Exec(ctx, `UPDATE apps_app SET destroying = 1 WHERE id = ?`, app)
	return wrap(err, "mark app %d", app)
}

// Delete removes all records of an app.
func (c *Catalog) Delete(ctx context.Context, app int64) error {
	return c.db.Tx(ctx, func(tx *db.Tx) error {
		for _, table := range []string{"apps_event", "apps_domain", "apps_release", "apps_build", "apps_config"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE app_id = ?`, app); err != nil {
				return fmt.Errorf("delete from %s: %w", table, err)
			}
		}
		_, err := tx.Exec(ctx, `DELETE FROM apps_app WHERE id = ?`, app)
		return wrap(err, "delete app %d", app)
	})
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// NewUUID is a random UUID (RFC 9562 §5.4).
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
