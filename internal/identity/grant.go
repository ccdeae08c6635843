package identity

import (
	"context"
	"fmt"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// A Subject is whom a role is granted to: a person or a team, one of the two.
type Subject struct {
	Person int64
	Team   int64
}

// A Grant is a role on one object.
type Grant struct {
	Subject Subject
	Name    string // of the person or the team
	Role    Role
}

// Grant gives a subject a role on an object, in place of the one it had there.
func (s *Service) Grant(ctx context.Context, who Who, o Object, to Subject, role Role) error {
	if err := checkRole(role, Reader); err != nil {
		return err
	}
	column, id, err := to.column()
	if err != nil {
		return err
	}
	return s.changeGrant(ctx, who, o, to, "grant "+role.String(), func(tx *db.Tx) error {
		insert := `INSERT INTO identity_grant (kind, object, ` + column + `, role) VALUES (?, ?, ?, ?)
			ON CONFLICT (kind, object, ` + column + `) DO UPDATE SET role = excluded.role`
		_, err := tx.Exec(ctx, insert, o.Kind, o.ID, id, int(role))
		if db.Referenced(err) {
			return fault.NotFound("there is no such %s", column).On("name")
		}
		return err
	})
}

// Revoke takes the role of a subject on an object.
func (s *Service) Revoke(ctx context.Context, who Who, o Object, from Subject) error {
	column, id, err := from.column()
	if err != nil {
		return err
	}
	return s.changeGrant(ctx, who, o, from, "revoke", func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM identity_grant WHERE kind = ? AND object = ? AND `+column+` = ?`, o.Kind, o.ID, id)
		return err
	})
}

func (sub Subject) column() (name string, id int64, err error) {
	switch {
	case sub.Person > 0 && sub.Team == 0:
		return "person", sub.Person, nil
	case sub.Team > 0 && sub.Person == 0:
		return "team", sub.Team, nil
	}
	return "", 0, fault.Invalid("name a person or a team")
}

// changeGrant is for those who manage the object. A team must be of the organisation that
// owns it: others are nobody's business.
func (s *Service) changeGrant(ctx context.Context, who Who, o Object, sub Subject, detail string, change func(*db.Tx) error) error {
	if err := s.Check(ctx, who, Manage, o); err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		if sub.Team != 0 {
			t, err := findTeam(ctx, tx, sub.Team)
			if err != nil {
				return err
			}
			if t.Org != o.OwnerID {
				return fault.NotFound("there is no such team")
			}
		}
		if err := change(tx); err != nil {
			return err
		}
		object := fmt.Sprintf("%s %d", o.Kind, o.ID)
		return s.Audit(ctx, tx, who, "access.change", object, fmt.Sprintf("%s %+v", detail, sub))
	})
}

// Grants lists who has roles on an object, for those who manage it.
func (s *Service) Grants(ctx context.Context, who Who, o Object) ([]Grant, error) {
	if err := s.Check(ctx, who, Manage, o); err != nil {
		return nil, err
	}
	const query = `SELECT COALESCE(g.person, 0), COALESCE(g.team, 0), COALESCE(p.name, t.name), g.role FROM identity_grant g
		LEFT JOIN person p ON p.id = g.person LEFT JOIN identity_team t ON t.id = g.team
		WHERE g.kind = ? AND g.object = ? ORDER BY 3, 1`
	return list(ctx, s.db, "grants", func(row scanner, g *Grant) error {
		return row.Scan(&g.Subject.Person, &g.Subject.Team, &g.Name, &g.Role)
	}, query, o.Kind, o.ID)
}

// ForgetObject drops all grants on an object, in the transaction that deletes it.
func (s *Service) ForgetObject(ctx context.Context, tx *db.Tx, kind string, id int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM identity_grant WHERE kind = ? AND object = ?`, kind, id)
	if err != nil {
		return fmt.Errorf("drop the grants on %s %d: %w", kind, id, err)
	}
	return nil
}
