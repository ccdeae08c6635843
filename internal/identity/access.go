package identity

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// Visibility is who sees an object without a role on it. It is stored as its number.
type Visibility int

const (
	Private  Visibility = iota // nobody
	Internal                   // everybody who has signed in
	Public                     // everybody
)

func (v Visibility) String() string {
	switch v {
	case Private:
		return "private"
	case Internal:
		return "internal"
	case Public:
		return "public"
	}
	return fmt.Sprintf("visibility %d", int(v))
}

// ParseVisibility reads what String writes.
func ParseVisibility(s string) (Visibility, error) {
	for v := Private; v <= Public; v++ {
		if s == v.String() {
			return v, nil
		}
	}
	return Private, fault.Invalid("%.40q is not a visibility", s).Try("choose from private, internal, public").On("visibility")
}

// A Role is what somebody has on an object. It is stored as its number.
type Role int

const (
	None Role = iota
	Reader
	Writer
	Manager
)

func (r Role) String() string {
	switch r {
	case None:
		return "none"
	case Reader:
		return "reader"
	case Writer:
		return "writer"
	case Manager:
		return "manager"
	}
	return fmt.Sprintf("role %d", int(r))
}

// ParseRole reads what String writes.
func ParseRole(s string) (Role, error) {
	for r := None; r <= Manager; r++ {
		if s == r.String() {
			return r, nil
		}
	}
	return None, fault.Invalid("%.40q is not a role", s).Try("choose from reader, writer, manager").On("role")
}

// An Action is what somebody wants to do; each needs the role of its number.
type Action int

const (
	View   = Action(Reader)
	Write  = Action(Writer)
	Manage = Action(Manager) // settings, who else may, deletion
)

func (a Action) String() string {
	switch a {
	case View:
		return "see"
	case Write:
		return "change"
	}
	return "manage"
}

// An Object is a thing of another part, as far as permission goes. One that is yet to be
// made has the ID 0.
type Object struct {
	Kind       string // "repo", "app"
	ID         int64
	OwnerID    int64
	Visibility Visibility
}

// Can reports whether who may do it.
func (s *Service) Can(ctx context.Context, who Who, a Action, o Object) (bool, error) {
	role, err := s.RoleOn(ctx, who, o)
	return err == nil && role >= Role(a), err
}

// Check is Can as an error: NotFound when who may not even see the object.
func (s *Service) Check(ctx context.Context, who Who, a Action, o Object) error {
	role, err := s.RoleOn(ctx, who, o)
	switch {
	case err != nil:
		return err
	case role == None:
		return fault.NotFound("there is no such %s", o.Kind)
	case role >= Role(a):
		return nil
	case who.Stranger():
		return fault.SignIn("sign in to %s this %s", a, o.Kind)
	}
	return fault.Forbidden("you may see this %s but not %s it", o.Kind, a).Try("ask its owner to let you in")
}

// RoleOn is the most that who may do, by ownership, grants, visibility and scope.
func (s *Service) RoleOn(ctx context.Context, who Who, o Object) (Role, error) {
	limit := who.Scope.role(o)
	switch {
	case limit == None:
		return None, nil
	case who.Administers() || who.ID != 0 && who.ID == o.OwnerID:
		return limit, nil
	}
	role := None
	if o.Visibility == Public || o.Visibility == Internal && who.ID != 0 {
		role = Reader
	}
	if who.ID != 0 {
		const query = `SELECT COALESCE(MAX(role), 0) FROM (
			SELECT role FROM identity_reach WHERE person = ? AND owner = ?
			UNION ALL
			SELECT role FROM identity_granted WHERE person = ? AND kind = ? AND object = ?) AS roles`
		var given Role
		if err := s.db.QueryRow(ctx, query, who.ID, o.OwnerID, who.ID, o.Kind, o.ID).Scan(&given); err != nil {
			return None, fmt.Errorf("find the role of %s: %w", who.Name, err)
		}
		role = max(role, given)
	}
	return min(role, limit), nil
}

// Visible is the condition of a list: the objects of a kind that who may see. The three
// columns are those of the object's number, owner and visibility in the caller's query.
func (s *Service) Visible(who Who, kind, id, owner, visibility string) (condition string, args []any) {
	if who.Scope.roleOnKind(kind) == None {
		return "1 = 0", nil
	}
	scope := ""
	if who.Scope != nil && len(who.Scope.Objects) > 0 {
		scope = who.Scope.listed(kind, id) + " AND "
	}
	if who.Administers() {
		return scope + "1 = 1", nil
	}
	if who.ID == 0 {
		return fmt.Sprintf("%s%s = %d", scope, visibility, Public), nil
	}
	condition = fmt.Sprintf(`%s(%s >= %d
		OR %s IN (SELECT owner FROM identity_reach WHERE person = ?)
		OR %s IN (SELECT object FROM identity_granted WHERE person = ? AND kind = ?))`,
		scope, visibility, Internal, owner, id)
	return condition, []any{who.ID, who.ID, kind}
}

func (s *Scope) listed(kind, id string) string {
	list := []string{"0"} // no object: IN () is not SQL
	for _, o := range s.Objects {
		if o.Kind == kind {
			list = append(list, strconv.FormatInt(o.ID, 10))
		}
	}
	return fmt.Sprintf("%s IN (%s)", id, strings.Join(list, ", "))
}
