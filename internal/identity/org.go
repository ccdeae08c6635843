package identity

import (
	"context"
	"fmt"
	"strings"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// An Org is an organisation: an owner that is not a person. Its members have its base
// role on everything it owns; its owners, among them, manage it.
type Org struct {
	ID       int64
	Name     string
	FullName string
	Base     Role
}

// NewOrg is what an organisation is made from.
type NewOrg struct {
	Name     string
	FullName string
	Base     Role // of its members on everything it owns; the zero value is None
}

// A Member of an organisation.
type Member struct {
	Person   int64
	Name     string
	FullName string
	Owns     bool // manages the organisation
}

// CreateOrg makes an organisation that who owns.
func (s *Service) CreateOrg(ctx context.Context, who Who, n NewOrg) (Org, error) {
	if who.ID == 0 {
		return Org{}, fault.SignIn("sign in first")
	}
	if err := who.mustAct(who.ID); err != nil {
		return Org{}, err
	}
	o := Org{Name: strings.ToLower(strings.TrimSpace(n.Name)), FullName: strings.TrimSpace(n.FullName), Base: n.Base}
	if err := CheckName(o.Name); err != nil {
		return Org{}, err
	}
	if err := checkText("full name", o.FullName, 100); err != nil {
		return Org{}, err
	}
	if err := checkRole(o.Base, None); err != nil {
		return Org{}, err
	}
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		var err error
		if o.ID, _, err = insertOwner(ctx, tx, o.Name, o.FullName, true); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO identity_org (id, base) VALUES (?, ?)`, o.ID, int(o.Base)); err != nil {
			return fmt.Errorf("create organisation: %w", err)
		}
		if err := putMember(ctx, tx, o.ID, who.ID, true); err != nil {
			return err
		}
		return s.Audit(ctx, tx, who, "org.create", o.Name, "")
	})
	return o, err
}

func checkRole(r, least Role) error {
	if r < least || r > Manager {
		return fault.Invalid("there is no %v to give", r).On("role")
	}
	return nil
}

// Org finds an organisation by name. A stranger finds none.
func (s *Service) Org(ctx context.Context, who Who, name string) (Org, error) {
	const query = `SELECT g.id, o.name, o.full_name, g.base FROM identity_org g JOIN identity_owner o ON o.id = g.id WHERE o.name = ?`
	var o Org
	err := s.db.QueryRow(ctx, query, strings.ToLower(name)).Scan(&o.ID, &o.Name, &o.FullName, &o.Base)
	if db.NotFound(err) || err == nil && who.Stranger() {
		return Org{}, fault.NotFound("there is no organisation called %.60s", name)
	}
	if err != nil {
		return Org{}, fmt.Errorf("load organisation %.60s: %w", name, err)
	}
	return o, nil
}

// OrgsOf lists the organisations of a person, for that person and administrators.
func (s *Service) OrgsOf(ctx context.Context, who Who, person int64) ([]Org, error) {
	if who.ID != person && !who.Administers() {
		return nil, who.mustAct(person)
	}
	const query = `SELECT g.id, o.name, o.full_name, g.base FROM identity_org g JOIN identity_owner o ON o.id = g.id
		JOIN identity_member m ON m.org = g.id WHERE m.person = ? ORDER BY o.name`
	return list(ctx, s.db, "organisations", func(row scanner, o *Org) error {
		return row.Scan(&o.ID, &o.Name, &o.FullName, &o.Base)
	}, query, person)
}

// SetBase changes what members may do on everything of the organisation.
func (s *Service) SetBase(ctx context.Context, who Who, org int64, base Role) error {
	if err := checkRole(base, None); err != nil {
		return err
	}
	return s.changeOrg(ctx, who, org, "org.base", base.String(), func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE identity_org SET base = ? WHERE id = ?`, int(base), org)
		return err
	})
}

// Members lists who belongs to an organisation, for its members.
func (s *Service) Members(ctx context.Context, who Who, org int64) ([]Member, error) {
	if err := s.mustBelong(ctx, s.db, who, org, false); err != nil {
		return nil, err
	}
	const query = `SELECT m.person, p.name, p.full_name, m.owns FROM identity_member m JOIN person p ON p.id = m.person
		WHERE m.org = ? ORDER BY p.name`
	return list(ctx, s.db, "members", func(row scanner, m *Member) error {
		return row.Scan(&m.Person, &m.Name, &m.FullName, &m.Owns)
	}, query, org)
}

// AddMember lets a person in, or changes whether a member owns the organisation.
func (s *Service) AddMember(ctx context.Context, who Who, org, person int64, owns bool) error {
	return s.changeOrg(ctx, who, org, "org.member.add", fmt.Sprint(person), func(tx *db.Tx) error {
		if err := putMember(ctx, tx, org, person, owns); err != nil {
			return err
		}
		return keepOwner(ctx, tx, org)
	})
}

func putMember(ctx context.Context, tx *db.Tx, org, person int64, owns bool) error {
	const upsert = `INSERT INTO identity_member (org, person, owns) VALUES (?, ?, ?)
		ON CONFLICT (org, person) DO UPDATE SET owns = excluded.owns`
	_, err := tx.Exec(ctx, upsert, org, person, owns)
	if db.Referenced(err) {
		return fault.NotFound("there is no such person").On("name")
	}
	return err
}

// RemoveMember takes a person out of the organisation and its teams. Members may leave.
func (s *Service) RemoveMember(ctx context.Context, who Who, org, person int64) error {
	by := who
	if who.acts(person) {
		by = System()
	}
	return s.changeOrg(ctx, by, org, "org.member.remove", fmt.Sprintf("%d by %s", person, who.Name), func(tx *db.Tx) error {
		const leave = `DELETE FROM identity_team_member WHERE person = ? AND team IN (SELECT id FROM identity_team WHERE org = ?)`
		if _, err := tx.Exec(ctx, leave, person, org); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM identity_member WHERE org = ? AND person = ?`, org, person); err != nil {
			return err
		}
		return keepOwner(ctx, tx, org)
	})
}

func keepOwner(ctx context.Context, tx *db.Tx, org int64) error {
	var owners int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM identity_member WHERE org = ? AND owns`, org).Scan(&owners)
	if err == nil && owners == 0 {
		return fault.Conflict("an organisation needs an owner").Try("make another member an owner first")
	}
	return err
}

// DeleteOrg removes an organisation that owns nothing.
func (s *Service) DeleteOrg(ctx context.Context, who Who, org int64) error {
	return s.changeOrg(ctx, who, org, "org.delete", "", func(tx *db.Tx) error {
		if err := s.mustOwnNothing(ctx, tx, org); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM identity_owner WHERE id = ? AND org`, org)
		return err
	})
}

// changeOrg runs change for an owner of the organisation and takes it down.
func (s *Service) changeOrg(ctx context.Context, who Who, org int64, action, detail string, change func(*db.Tx) error) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		if err := s.mustBelong(ctx, tx, who, org, true); err != nil {
			return err
		}
		var name string
		if err := tx.QueryRow(ctx, `SELECT name FROM owner WHERE id = ? AND org`, org).Scan(&name); err != nil {
			if db.NotFound(err) {
				return fault.NotFound("there is no such organisation")
			}
			return err
		}
		if err := change(tx); err != nil {
			return err
		}
		return s.Audit(ctx, tx, who, action, name, detail)
	})
}

// mustBelong refuses who is no member; with owning also members who are not owners.
func (s *Service) mustBelong(ctx context.Context, q db.Querier, who Who, org int64, owning bool) error {
	if who.Administers() {
		return nil
	}
	if who.ID == 0 {
		return fault.NotFound("there is no such organisation")
	}
	var owns bool
	err := q.QueryRow(ctx, `SELECT owns FROM identity_member WHERE org = ? AND person = ?`, org, who.ID).Scan(&owns)
	switch {
	case db.NotFound(err):
		return fault.NotFound("there is no such organisation, or you are not in it")
	case err != nil:
		return fmt.Errorf("find the member: %w", err)
	case owning && !owns:
		return fault.Forbidden("only owners of the organisation may do this")
	case owning && !who.Can(RightPerson):
		return fault.Forbidden("this token may not change organisations").Try("make one with the right %q", RightPerson)
	}
	return nil
}

type scanner interface{ Scan(dest ...any) error }

// list reads all rows of a query.
func list[T any](ctx context.Context, q db.Querier, what string, scan func(scanner, *T) error, query string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, fmt.Errorf("list %s: %w", what, err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return all, nil
}
