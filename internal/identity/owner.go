package identity

import (
	"context"
	"fmt"
	"maps"
	"slices"
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

// A Belongings function counts what a part keeps for an owner.
type Belongings func(ctx context.Context, q db.Querier, owner int64) (n int, err error)

// BeforeDelete registers what must be empty before an owner may be deleted. The parts whose
// objects have owners do so when they are opened.
func (s *Service) BeforeDelete(what string, count Belongings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.belongings[what] = count
}

func (s *Service) mustOwnNothing(ctx context.Context, tx *db.Tx, owner int64) error {
	s.mu.Lock()
	belongings := maps.Clone(s.belongings)
	s.mu.Unlock()
	belongings["organisations without another owner"] = soleOwned
	for _, what := range slices.Sorted(maps.Keys(belongings)) {
		n, err := belongings[what](ctx, tx, owner)
		if err != nil {
			return fmt.Errorf("count %s: %w", what, err)
		}
		if n > 0 {
			return fault.Conflict("there are still %d %s", n, what).Try("delete them or hand them over first")
		}
	}
	return nil
}

func soleOwned(ctx context.Context, q db.Querier, person int64) (n int, err error) {
	const query = `SELECT count(*) FROM identity_member m WHERE m.person = ? AND m.owns
		AND NOT EXISTS (SELECT 1 FROM identity_member x WHERE x.org = m.org AND x.owns AND x.person <> m.person)`
	err = q.QueryRow(ctx, query, person).Scan(&n)
	return n, err
}
