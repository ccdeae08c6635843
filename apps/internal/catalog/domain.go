package catalog

import (
	"context"
	"fmt"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// A Domain is a further host of an app.
type Domain struct {
	Name    string
	App     int64
	Author  string
	Created time.Time
}

func scanDomain(row scanner) (Domain, error) {
	var d Domain
	var created db.Time
	err := row.Scan(&d.Name, &d.App, &d.Author, &created)
	d.Created = created.Time
	return d, err
}

// Domains lists the domains of an app by name.
func (c *Catalog) Domains(ctx context.Context, app int64) ([]Domain, error) {
	rows, err := c.db.Query(ctx, `SELECT domain, app_id, author, created FROM apps_domain WHERE app_id = ? ORDER BY domain`, app)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", err)
	}
	return collect(rows, scanDomain)
}

// AddDomain gives the app a domain that nobody has.
func (c *Catalog) AddDomain(ctx context.Context, a App, author, name string) (Domain, error) {
	d := Domain{Name: name, App: a.ID, Author: author, Created: db.Now().Time}
	err := c.db.Tx(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO apps_domain (domain, app_id, author, created) VALUES (?, ?, ?, ?)`,
			name, a.ID, author, db.At(d.Created))
		if db.Unique(err) {
			return fault.Invalid("Domain is already in use by another application").On("domain")
		}
		if err != nil {
			return fmt.Errorf("add domain: %w", err)
		}
		return c.Note(ctx, tx, a.ID, Info, fmt.Sprintf("domain %s added", name))
	})
	return d, err
}

// hostFree refuses the name of a new app when an older one has its host as a domain: the
// requests of the one would go to the other.
func (c *Catalog) hostFree(ctx context.Context, tx *db.Tx, name, host string) error {
	var taken int
	err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM apps_domain WHERE domain IN (?, ?)`, name, host).Scan(&taken)
	if err != nil {
		return fmt.Errorf("look for the domain %s: %w", host, err)
	}
	if taken > 0 {
		return fault.Conflict("%s is a domain of another application.", host).Try("choose another name").On("id")
	}
	return nil
}

// RemoveDomain takes a domain away.
func (c *Catalog) RemoveDomain(ctx context.Context, a App, name string) error {
	return c.db.Tx(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, `DELETE FROM apps_domain WHERE app_id = ? AND domain = ?`, a.ID, name)
		if err != nil {
			return fmt.Errorf("remove domain: %w", err)
		}
		if n, err := res.RowsAffected(); err == nil && n == 0 {
			return fault.NotFound("No Domain matches the given query.")
		}
		return c.Note(ctx, tx, a.ID, Info, fmt.Sprintf("domain %s removed", name))
	})
}
