package identity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// An Owner is a person or an organisation.
type Owner struct {
	ID   int64
	Name string
	Org  bool
}

// Owner finds one by name.
func (s *Service) Owner(ctx context.Context, name string) (Owner, error) {
	return scanOwner(s.db.QueryRow(ctx, `SELECT id, name, org FROM owner WHERE name = ?`, strings.ToLower(name)), name)
}

// OwnerByID finds one by number.
func (s *Service) OwnerByID(ctx context.Context, id int64) (Owner, error) {
	return scanOwner(s.db.QueryRow(ctx, `SELECT id, name, org FROM owner WHERE id = ?`, id), fmt.Sprint(id))
}

func scanOwner(row *db.Row, asked string) (Owner, error) {
	var o Owner
	err := row.Scan(&o.ID, &o.Name, &o.Org)
	if db.NotFound(err) {
		return Owner{}, fault.NotFound("there is nobody called %.60s", asked)
	}
	if err != nil {
		return Owner{}, fmt.Errorf("load owner %.60s: %w", asked, err)
	}
	return o, nil
}

func insertOwner(ctx context.Context, tx *db.Tx, name, fullName string, org bool) (id int64, created time.Time, err error) {
	const insert = `INSERT INTO identity_owner (name, full_name, org, created) VALUES (?, ?, ?, ?) RETURNING id`
	now := db.Now()
	err = tx.QueryRow(ctx, insert, name, fullName, org, now).Scan(&id)
	if db.Unique(err) {
		return 0, time.Time{}, fault.Conflict("the name %q is taken", name).Try("choose another one").On("name")
	}
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("create %s: %w", name, err)
	}
	return id, now.Time, nil
}
