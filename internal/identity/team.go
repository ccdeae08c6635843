package identity

import (
	"context"
	"fmt"
	"strings"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// A Team is a group of members of an organisation. Its role holds on everything the
// organisation owns; with None the team has only what is granted to it.
type Team struct {
	ID   int64
	Org  int64
	Name string
	Role Role
}

// CreateTeam makes an empty team.
func (s *Service) CreateTeam(ctx context.Context, who Who, org int64, name string, role Role) (Team, error) {
	t := Team{Org: org, Name: strings.ToLower(strings.TrimSpace(name)), Role: role}
	if err := CheckName(t.Name); err != nil {
		return Team{}, err
	}
	if err := checkRole(role, None); err != nil {
		return Team{}, err
	}
	err := s.changeOrg(ctx, who, org, "team.create", t.Name, func(tx *db.Tx) error {
		const insert = `INSERT INTO identity_team (org, name, role) VALUES (?, ?, ?) RETURNING id`
		err := tx.QueryRow(ctx, insert, org, t.Name, int(role)).Scan(&t.ID)
		if db.Unique(err) {
			return fault.Conflict("there is a team called %q already", t.Name).Try("choose another name").On("name")
		}
		return err
	})
	return t, err
}

// Teams lists the teams of an organisation, for its members.
func (s *Service) Teams(ctx context.Context, who Who, org int64) ([]Team, error) {
	if err := s.mustBelong(ctx, s.db, who, org, false); err != nil {
		return nil, err
	}
	return list(ctx, s.db, "teams", func(row scanner, t *Team) error {
		return row.Scan(&t.ID, &t.Org, &t.Name, &t.Role)
	}, `SELECT id, org, name, role FROM identity_team WHERE org = ? ORDER BY name`, org)
}

// TeamMembers lists who is in a team, for members of its organisation.
func (s *Service) TeamMembers(ctx context.Context, who Who, team int64) ([]Member, error) {
	t, err := findTeam(ctx, s.db, team)
	if err != nil {
		return nil, err
	}
	if err := s.mustBelong(ctx, s.db, who, t.Org, false); err != nil {
		return nil, err
	}
	const query = `SELECT p.id, p.name, p.full_name, m.owns FROM identity_team_member tm JOIN person p ON p.id = tm.person
		JOIN identity_member m ON m.person = p.id AND m.org = ? WHERE tm.team = ? ORDER BY p.name`
	return list(ctx, s.db, "members", func(row scanner, m *Member) error {
		return row.Scan(&m.Person, &m.Name, &m.FullName, &m.Owns)
	}, query, t.Org, team)
}

// AddToTeam puts a member of the organisation into a team.
func (s *Service) AddToTeam(ctx context.Context, who Who, team, person int64) error {
	return s.changeTeam(ctx, who, team, "team.member.add", fmt.Sprint(person), func(tx *db.Tx, t Team) error {
		var member bool
		const query = `SELECT EXISTS (SELECT 1 FROM identity_member WHERE org = ? AND person = ?)`
		if err := tx.QueryRow(ctx, query, t.Org, person).Scan(&member); err != nil {
			return err
		}
		if !member {
			return fault.Conflict("this person is not in the organisation").Try("add them to the organisation first").On("name")
		}
		_, err := tx.Exec(ctx, `INSERT INTO identity_team_member (team, person) VALUES (?, ?) ON CONFLICT DO NOTHING`, team, person)
		return err
	})
}

// RemoveFromTeam takes a person out of a team.
func (s *Service) RemoveFromTeam(ctx context.Context, who Who, team, person int64) error {
	return s.changeTeam(ctx, who, team, "team.member.remove", fmt.Sprint(person), func(tx *db.Tx, _ Team) error {
		_, err := tx.Exec(ctx, `DELETE FROM identity_team_member WHERE team = ? AND person = ?`, team, person)
		return err
	})
}

// SetTeamRole changes what a team may do on everything of its organisation.
func (s *Service) SetTeamRole(ctx context.Context, who Who, team int64, role Role) error {
	if err := checkRole(role, None); err != nil {
		return err
	}
	return s.changeTeam(ctx, who, team, "team.role", role.String(), func(tx *db.Tx, _ Team) error {
		_, err := tx.Exec(ctx, `UPDATE identity_team SET role = ? WHERE id = ?`, int(role), team)
		return err
	})
}

// DeleteTeam removes a team and what was granted to it.
func (s *Service) DeleteTeam(ctx context.Context, who Who, team int64) error {
	return s.changeTeam(ctx, who, team, "team.delete", "", func(tx *db.Tx, _ Team) error {
		_, err := tx.Exec(ctx, `DELETE FROM identity_team WHERE id = ?`, team)
		return err
	})
}

func (s *Service) changeTeam(ctx context.Context, who Who, team int64, action, detail string, change func(*db.Tx, Team) error) error {
	t, err := findTeam(ctx, s.db, team)
	if err != nil {
		return err
	}
	return s.changeOrg(ctx, who, t.Org, action, strings.TrimSpace(t.Name+" "+detail), func(tx *db.Tx) error {
		return change(tx, t)
	})
}

func findTeam(ctx context.Context, q db.Querier, team int64) (t Team, err error) {
	err = q.QueryRow(ctx, `SELECT id, org, name, role FROM identity_team WHERE id = ?`, team).Scan(&t.ID, &t.Org, &t.Name, &t.Role)
	if db.NotFound(err) {
		return Team{}, fault.NotFound("there is no such team")
	}
	if err != nil {
		return Team{}, fmt.Errorf("load team %d: %w", team, err)
	}
	return t, nil
}
