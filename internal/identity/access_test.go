package identity_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// A harbour is an organisation with everybody in it, and three repositories of each
// visibility: boats of the organisation, by visibility.
type harbour struct {
	s       *identity.Service
	who     map[string]identity.Who
	org     identity.Org
	objects map[identity.Visibility]identity.Object
}

func newHarbour(t *testing.T, s *identity.Service, d *db.DB) harbour {
	t.Helper()
	ctx := t.Context()
	h := harbour{s: s, who: map[string]identity.Who{"stranger": {}, "system": identity.System()}, objects: map[identity.Visibility]identity.Object{}}
	h.who["administrator"] = administrator(t, s, "boss")
	for _, name := range []string{"owner", "member", "pilot", "cook", "guest-reader", "guest-writer", "guest-manager", "outsider"} {
		h.who[name] = person(t, s, name)
	}
	owner := h.who["owner"]
	var err error
	h.org, err = s.CreateOrg(ctx, owner, identity.NewOrg{Name: "harbour", Base: identity.Reader})
	must(t, err)
	for _, name := range []string{"member", "pilot", "cook"} {
		must(t, s.AddMember(ctx, owner, h.org.ID, h.who[name].ID, false))
	}
	pilots, err := s.CreateTeam(ctx, owner, h.org.ID, "pilots", identity.Writer)
	must(t, err)
	must(t, s.AddToTeam(ctx, owner, pilots.ID, h.who["pilot"].ID))
	cooks, err := s.CreateTeam(ctx, owner, h.org.ID, "cooks", identity.None)
	must(t, err)
	must(t, s.AddToTeam(ctx, owner, cooks.ID, h.who["cook"].ID))

	_, err = d.Exec(ctx, `CREATE TABLE boat (id BIGINT PRIMARY KEY, owner BIGINT NOT NULL, visibility INTEGER NOT NULL)`)
	must(t, err)
	for v := identity.Private; v <= identity.Public; v++ {
		o := identity.Object{Kind: "repo", ID: 10 + int64(v), OwnerID: h.org.ID, Visibility: v}
		_, err := d.Exec(ctx, `INSERT INTO boat (id, owner, visibility) VALUES (?, ?, ?)`, o.ID, o.OwnerID, int(v))
		must(t, err)
		h.objects[v] = o
		must(t, s.Grant(ctx, owner, o, identity.Subject{Team: cooks.ID}, identity.Manager))
		for guest, role := range map[string]identity.Role{
			"guest-reader": identity.Reader, "guest-writer": identity.Writer, "guest-manager": identity.Manager,
		} {
			must(t, s.Grant(ctx, owner, o, identity.Subject{Person: h.who[guest].ID}, role))
		}
	}
	return h
}

// TestWhoMayDoWhat is the whole model: for each sort of person and token, what they may do
// with something private, internal and public. - is nothing, r sees, w also changes, m
// also manages.
func TestWhoMayDoWhat(t *testing.T) {
	only := func(ids []int64, rights ...identity.Right) *identity.Scope {
		s := &identity.Scope{Rights: rights}
		for _, id := range ids {
			s.Objects = append(s.Objects, identity.ObjectRef{Kind: "repo", ID: id})
		}
		return s
	}
	private := []int64{10}
	table := []struct {
		who   string
		scope *identity.Scope
		want  string // private, internal, public
	}{
		{"stranger", nil, "--r"},
		{"outsider", nil, "-rr"},
		{"member", nil, "rrr"},
		{"pilot", nil, "www"},
		{"cook", nil, "mmm"},
		{"guest-reader", nil, "rrr"},
		{"guest-writer", nil, "www"},
		{"guest-manager", nil, "mmm"},
		{"owner", nil, "mmm"},
		{"administrator", nil, "mmm"},
		{"system", nil, "mmm"},

		{"owner", only(nil, identity.RightRepoRead), "rrr"},
		{"owner", only(nil, identity.RightRepoWrite), "mmm"},
		{"owner", only(nil, identity.RightAppWrite, identity.RightPerson), "---"},
		{"owner", only(private, identity.RightRepoWrite), "m--"},
		{"owner", only(private, identity.RightRepoRead), "r--"},
		{"owner", only([]int64{99}, identity.RightRepoWrite), "---"},
		{"guest-writer", only(private, identity.RightRepoRead), "r--"},
		{"guest-reader", only(nil, identity.RightRepoWrite), "rrr"},
		{"outsider", only(nil, identity.RightRepoWrite), "-rr"},
		{"outsider", only(private, identity.RightRepoWrite), "---"},
		{"administrator", only(nil, identity.RightRepoWrite), "-rr"},
		{"administrator", only(nil, identity.RightRepoWrite, identity.RightAdmin), "mmm"},
		{"administrator", only(nil, identity.RightAdmin), "---"},
	}
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		h := newHarbour(t, s, d)
		for _, test := range table {
			who := h.who[test.who]
			who.Scope = test.scope
			name := fmt.Sprintf("%s with %+v", test.who, test.scope)
			for v := identity.Private; v <= identity.Public; v++ {
				h.may(t, fmt.Sprintf("%s, %v", name, v), who, h.objects[v], test.want[v])
			}
			h.sees(t, d, name, who, test.want)
		}
	})
}

// may compares Can and Check with a letter of the table.
func (h harbour) may(t *testing.T, what string, who identity.Who, o identity.Object, letter byte) {
	t.Helper()
	have := map[byte]identity.Role{'-': identity.None, 'r': identity.Reader, 'w': identity.Writer, 'm': identity.Manager}[letter]
	for _, a := range []identity.Action{identity.View, identity.Write, identity.Manage} {
		ok, err := h.s.Can(t.Context(), who, a, o)
		if err != nil || ok != (have >= identity.Role(a)) {
			t.Errorf("%s: %v: %v, %v", what, a, ok, err)
		}
		err = h.s.Check(t.Context(), who, a, o)
		switch {
		case ok && err != nil:
			t.Errorf("%s: %v: Check says %v", what, a, err)
		case have == identity.None:
			kind(t, what, err, fault.KindNotFound)
		case !ok && who.Stranger():
			kind(t, what, err, fault.KindSignIn)
		case !ok:
			kind(t, what, err, fault.KindForbidden)
		}
	}
}

// sees compares the list of Visible with the same letters.
func (h harbour) sees(t *testing.T, d *db.DB, what string, who identity.Who, letters string) {
	t.Helper()
	condition, args := h.s.Visible(who, "repo", "b.id", "b.owner", "b.visibility")
	rows, err := d.Query(t.Context(), `SELECT b.id FROM boat b WHERE `+condition+` ORDER BY b.id`, args...)
	must(t, err)
	defer rows.Close()
	var got, want []int64
	for rows.Next() {
		var id int64
		must(t, rows.Scan(&id))
		got = append(got, id)
	}
	must(t, rows.Err())
	for v, letter := range letters {
		if letter != '-' {
			want = append(want, 10+int64(v))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the list shows %v, want %v", what, got, want)
	}
}

func TestRolesComeAndGo(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		h := newHarbour(t, s, d)
		owner, private := h.who["owner"], h.objects[identity.Private]
		guest := h.who["guest-writer"]
		to := identity.Subject{Person: guest.ID}
		may := func(who identity.Who, a identity.Action, want bool) {
			t.Helper()
			if ok, err := s.Can(ctx, who, a, private); err != nil || ok != want {
				t.Errorf("%s may %v: %v, %v", who.Name, a, ok, err)
			}
		}
		kind(t, "a grant by a writer", s.Grant(ctx, guest, private, to, identity.Manager), fault.KindForbidden)
		kind(t, "a grant by an outsider", s.Grant(ctx, h.who["outsider"], private, to, identity.Manager), fault.KindNotFound)
		kind(t, "a grant to nobody", s.Grant(ctx, owner, private, identity.Subject{Person: 9999}, identity.Reader), fault.KindNotFound)
		kind(t, "a grant to both", s.Grant(ctx, owner, private, identity.Subject{Person: 1, Team: 1}, identity.Reader), fault.KindInvalid)
		kind(t, "a role that is none", s.Grant(ctx, owner, private, to, identity.None), fault.KindInvalid)
		must(t, s.Grant(ctx, owner, private, to, identity.Reader))
		may(guest, identity.Write, false)
		grants, err := s.Grants(ctx, owner, private)
		if err != nil || len(grants) != 4 || grants[0].Name != "cooks" || grants[0].Role != identity.Manager {
			t.Errorf("grants: %+v, %v", grants, err)
		}
		must(t, s.Revoke(ctx, owner, private, to))
		may(guest, identity.View, false)

		member := h.who["member"]
		must(t, s.SetBase(ctx, owner, h.org.ID, identity.None))
		may(member, identity.View, false)
		kind(t, "a change by a member", s.SetBase(ctx, member, h.org.ID, identity.Manager), fault.KindForbidden)
		kind(t, "the last owner leaving", s.RemoveMember(ctx, owner, h.org.ID, owner.ID), fault.KindConflict)

		pilot := h.who["pilot"]
		must(t, s.RemoveMember(ctx, pilot, h.org.ID, pilot.ID))
		may(pilot, identity.View, false)
		kind(t, "members for an outsider", errorOf(s.Members(ctx, pilot, h.org.ID)), fault.KindNotFound)

		must(t, d.Tx(ctx, func(tx *db.Tx) error { return s.ForgetObject(ctx, tx, "repo", private.ID) }))
		may(h.who["guest-manager"], identity.View, false)
		may(h.who["cook"], identity.View, false)
	})
}

func errorOf[T any](_ T, err error) error { return err }

func TestAnotherOrganisationsTeamIsNobodysBusiness(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		h := newHarbour(t, s, d)
		outsider := h.who["outsider"]
		other, err := s.CreateOrg(ctx, outsider, identity.NewOrg{Name: "pirates"})
		must(t, err)
		crew, err := s.CreateTeam(ctx, outsider, other.ID, "crew", identity.Manager)
		must(t, err)
		err = s.Grant(ctx, h.who["owner"], h.objects[identity.Public], identity.Subject{Team: crew.ID}, identity.Writer)
		kind(t, "a grant to it", err, fault.KindNotFound)
		kind(t, "a member of another", s.AddToTeam(ctx, outsider, crew.ID, h.who["member"].ID), fault.KindConflict)
		kind(t, "a change by a stranger", s.DeleteTeam(ctx, h.who["owner"], crew.ID), fault.KindNotFound)
	})
}

func BenchmarkCan(b *testing.B) {
	s := open(b, sqlite(b))
	ann, bob := person(b, s, "ann"), person(b, s, "bob")
	o := identity.Object{Kind: "repo", ID: 1, OwnerID: ann.ID}
	for b.Loop() {
		if _, err := s.Can(context.Background(), bob, identity.View, o); err != nil {
			b.Fatal(err)
		}
	}
}
