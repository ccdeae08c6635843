package repo

import (
	"context"
	"fmt"
	"strings"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

const columns = `r.id, r.owner, o.name, r.name, r.description, r.visibility, r.default_branch, r.created, r.pushed`

const from = ` FROM forge_repo r JOIN owner o ON o.id = r.owner `

type scanner interface{ Scan(dest ...any) error }

func scan(row scanner) (Repo, error) {
	var r Repo
	var visibility int
	var created, pushed db.Time
	err := row.Scan(&r.ID, &r.OwnerID, &r.Owner, &r.Name, &r.Description, &visibility, &r.Default, &created, &pushed)
	r.Visibility, r.Created, r.Pushed = identity.Visibility(visibility), created.Time, pushed.Time
	return r, err
}

// Find looks a repository up by its names, for someone who wants to act on it.
func (s *Service) Find(ctx context.Context, who identity.Who, act identity.Action, owner, name string) (Repo, error) {
	const query = `SELECT ` + columns + from + `WHERE r.owner = ? AND r.name_key = ?`
	o, err := s.cfg.Identity.Owner(ctx, owner)
	if fault.Is(err, fault.KindNotFound) {
		return Repo{}, missing(owner + "/" + name)
	}
	if err != nil {
		return Repo{}, err
	}
	r, err := scan(s.cfg.DB.QueryRow(ctx, query, o.ID, strings.ToLower(name)))
	return s.allowed(ctx, who, act, r, err, owner+"/"+name)
}

// ByID is Find by number.
func (s *Service) ByID(ctx context.Context, who identity.Who, act identity.Action, id int64) (Repo, error) {
	const query = `SELECT ` + columns + from + `WHERE r.id = ?`
	r, err := scan(s.cfg.DB.QueryRow(ctx, query, id))
	return s.allowed(ctx, who, act, r, err, fmt.Sprint(id))
}

// allowed turns the answer of a query into the answer for who.
func (s *Service) allowed(ctx context.Context, who identity.Who, act identity.Action, r Repo, err error, asked string) (Repo, error) {
	if db.NotFound(err) {
		return Repo{}, missing(asked)
	}
	if err != nil {
		return Repo{}, fmt.Errorf("load repository %s: %w", asked, err)
	}
	err = s.cfg.Identity.Check(ctx, who, act, r.Object())
	switch {
	case fault.Is(err, fault.KindNotFound):
		return Repo{}, missing(asked) // in the very words of one that does not exist
	case fault.Is(err, fault.KindForbidden):
		return Repo{}, fault.Forbidden("you may see %s but not %s it", asked, verb(act)).Try("ask its owner to let you in")
	case err != nil:
		return Repo{}, err
	}
	return r, nil
}

func verb(act identity.Action) string {
	if act == identity.Write {
		return "push to"
	}
	return "manage"
}

func missing(asked string) error {
	return fault.NotFound("no such repository: %s", asked).Try("check its name and who you are signed in as")
}

// A Filter chooses repositories for a list.
type Filter struct {
	OwnerID int64 // 0: everybody's
	Limit   int   // 0: 50
	Offset  int
}

// List tells the repositories that who may see, the last pushed first.
func (s *Service) List(ctx context.Context, who identity.Who, f Filter) ([]Repo, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	condition, args := s.cfg.Identity.Visible(who, Kind, "r.id", "r.owner", "r.visibility")
	query := `SELECT ` + columns + from + `WHERE ` + condition
	if f.OwnerID != 0 {
		query += ` AND r.owner = ?`
		args = append(args, f.OwnerID)
	}
	query += ` ORDER BY COALESCE(r.pushed, r.created) DESC, r.id DESC LIMIT ? OFFSET ?`
	rows, err := s.cfg.DB.Query(ctx, query, append(args, f.Limit, f.Offset)...)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	defer rows.Close()
	var list []Repo
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// owners are the names that who may create repositories for: his own, and those of the
// organisations where he manages things.
func (s *Service) owners(ctx context.Context, who identity.Who) ([]string, error) {
	const query = `SELECT DISTINCT o.name FROM owner o JOIN identity_reach r ON r.owner = o.id
		WHERE r.person = ? AND r.role >= ? AND o.id <> ? ORDER BY o.name LIMIT 200`
	rows, err := s.cfg.DB.Query(ctx, query, who.ID, int(identity.Manager), who.ID)
	if err != nil {
		return nil, fmt.Errorf("list owners: %w", err)
	}
	defer rows.Close()
	names := []string{who.Name}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list owners: %w", err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
