package identity_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const password = "correct horse"

// each opens a service on both databases.
func each(t *testing.T, fn func(t *testing.T, s *identity.Service, d *db.DB)) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) { fn(t, open(t, d), d) })
}

func open(t testing.TB, d *db.DB) *identity.Service {
	t.Helper()
	box, err := secret.Open(filepath.Join(t.TempDir(), "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := identity.Open(t.Context(), identity.Config{DB: d, Secret: box})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// person makes an account without a password, which would take its time.
func person(t testing.TB, s *identity.Service, name string) identity.Who {
	t.Helper()
	p, err := s.Create(t.Context(), identity.System(), identity.NewPerson{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	who, err := s.WhoByID(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func withPassword(t testing.TB, s *identity.Service, name string) identity.Who {
	t.Helper()
	p, err := s.Create(t.Context(), identity.System(), identity.NewPerson{Name: name, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return identity.Who{ID: p.ID, Name: p.Name}
}

func administrator(t testing.TB, s *identity.Service, name string) identity.Who {
	t.Helper()
	who := person(t, s, name)
	if err := s.SetAdmin(t.Context(), identity.System(), who.ID, true); err != nil {
		t.Fatal(err)
	}
	who.Admin = true
	return who
}

// kind checks what sort of fault err is; ok is none.
func kind(t testing.TB, what string, err error, want fault.Kind) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("%s: got %v, want a fault of kind %d", what, err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstPersonIsMadeOnceWithTheCode(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		code, err := s.SetupCode(ctx)
		if err != nil || len(code) < 20 {
			t.Fatalf("code %q, %v", code, err)
		}
		ann := identity.NewPerson{Name: "Ann", FullName: "Ann Li", Email: "ann@example.com", Password: password}
		_, err = s.Setup(ctx, "guess", ann)
		kind(t, "a guessed code", err, fault.KindNotFound)
		again, err := s.SetupCode(ctx)
		if err != nil || again != code {
			t.Errorf("the code changed to %q, %v", again, err)
		}
		p, err := s.Setup(ctx, strings.ToUpper(code)+" ", ann)
		if err != nil || p.Name != "ann" || !p.Admin {
			t.Fatalf("set-up made %+v, %v", p, err)
		}
		_, err = s.Setup(ctx, code, identity.NewPerson{Name: "eve", Password: password})
		kind(t, "the code again", err, fault.KindNotFound)
		if code, err := s.SetupCode(ctx); err != nil || code != "" {
			t.Errorf("after the set-up: %q, %v", code, err)
		}
	})
}

func TestAnAccountIsMadeByAdministratorsAndChecked(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		admin := administrator(t, s, "root-of-all")
		ann := person(t, s, "ann")
		_, err := s.Create(ctx, ann, identity.NewPerson{Name: "bob"})
		kind(t, "by a person", err, fault.KindForbidden)
		_, err = s.Create(ctx, identity.Who{}, identity.NewPerson{Name: "bob"})
		kind(t, "by a stranger", err, fault.KindSignIn)
		for what, n := range map[string]identity.NewPerson{
			"a path":              {Name: "../x"},
			"no name":             {Name: ""},
			"a reserved name":     {Name: "api"},
			"an end hyphen":       {Name: "ann-"},
			"a long name":         {Name: strings.Repeat("a", 40)},
			"a bad address":       {Name: "bob", Email: "Bob <bob@example.com>"},
			"a line break":        {Name: "bob", FullName: "a\nb"},
			"a short password":    {Name: "bob", Password: "short"},
			"a common password":   {Name: "bob", Password: "Password1"},
			"the name itself":     {Name: "bob-the-builder", Password: "bob-the-builder"},
			"an endless password": {Name: "bob", Password: strings.Repeat("x", 300)},
		} {
			_, err := s.Create(ctx, admin, n)
			kind(t, what, err, fault.KindInvalid)
		}
		_, err = s.Create(ctx, admin, identity.NewPerson{Name: "ANN"})
		kind(t, "a taken name", err, fault.KindConflict)
		_, err = s.CreateOrg(ctx, ann, identity.NewOrg{Name: "ann"})
		kind(t, "an organisation with a person's name", err, fault.KindConflict)
	})
}

func TestPeopleAreShownWithoutTheirAddress(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann, bob := person(t, s, "ann"), person(t, s, "bob")
		email, lang := "ann@example.com", "zh"
		_, err := s.UpdatePerson(ctx, bob, ann.ID, identity.Changes{Email: &email})
		kind(t, "change of another", err, fault.KindNotFound)
		_, err = s.UpdatePerson(ctx, ann, ann.ID, identity.Changes{Email: &email, Lang: &lang})
		must(t, err)
		own, err := s.Person(ctx, ann, "Ann")
		if err != nil || own.Email != email || own.Lang != "zh" {
			t.Errorf("oneself: %+v, %v", own, err)
		}
		other, err := s.PersonByID(ctx, bob, ann.ID)
		if err != nil || other.Email != "" {
			t.Errorf("by another: %+v, %v", other, err)
		}
		_, err = s.Person(ctx, identity.Who{}, "ann")
		_, none := s.Person(ctx, identity.Who{}, "ghost")
		kind(t, "by a stranger", err, fault.KindNotFound)
		if strings.ReplaceAll(err.Error(), "ann", "ghost") != none.Error() {
			t.Errorf("a stranger can tell %q from %q", err, none)
		}
		all, err := s.People(ctx, bob)
		if err != nil || len(all) != 2 || all[0].Name != "ann" || all[0].Email != "" {
			t.Errorf("the list: %+v, %v", all, err)
		}
	})
}

func TestTheLastAdministratorStays(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann, bob := administrator(t, s, "ann"), person(t, s, "bob")
		kind(t, "taking the power", s.SetAdmin(ctx, ann, ann.ID, false), fault.KindConflict)
		kind(t, "closing the account", s.SetActive(ctx, ann, ann.ID, false), fault.KindConflict)
		kind(t, "leaving", s.Delete(ctx, ann, ann.ID), fault.KindConflict)
		kind(t, "rising", s.SetAdmin(ctx, bob, bob.ID, true), fault.KindForbidden)
		must(t, s.SetAdmin(ctx, ann, bob.ID, true))
		must(t, s.Delete(ctx, ann, ann.ID))
		log, err := s.AuditLog(ctx, identity.System(), 0, 10)
		if err != nil || len(log) == 0 || log[0].Action != "person.delete" || log[0].Object != "ann" {
			t.Errorf("the audit log says %+v, %v", log, err)
		}
	})
}

func TestWhoOwnsSomethingCannotBeDeleted(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		administrator(t, s, "boss")
		ann, bob := person(t, s, "ann"), person(t, s, "bob")
		boats := 1
		s.BeforeDelete("boats", func(_ context.Context, _ db.Querier, owner int64) (int, error) {
			if owner == bob.ID {
				return boats, nil
			}
			return 0, nil
		})
		org, err := s.CreateOrg(ctx, ann, identity.NewOrg{Name: "harbour"})
		must(t, err)
		kind(t, "the owner of boats", s.Delete(ctx, bob, bob.ID), fault.KindConflict)
		kind(t, "the only owner of an organisation", s.Delete(ctx, ann, ann.ID), fault.KindConflict)
		must(t, s.AddMember(ctx, ann, org.ID, bob.ID, true))
		must(t, s.Delete(ctx, ann, ann.ID))
		boats = 0
		must(t, s.DeleteOrg(ctx, bob, org.ID))
		must(t, s.Delete(ctx, bob, bob.ID))
	})
}

func TestNamesOfPeople(t *testing.T) {
	for name, good := range map[string]bool{
		"ann": true, "a": true, "a-b": true, "0": true, "x1": true, strings.Repeat("a", 39): true,
		"": false, "-": false, "-a": false, "a-": false, "A": false, "a_b": false, "a.b": false, "a/b": false, "..": false,
		"é": false, "a\x00": false, "a ": false, "v2": false, "api": false, "apps": false, "admin": false, strings.Repeat("a", 40): false,
	} {
		if err := identity.CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, seed := range []string{"ann", "-", "a-b", "..", "a/b", "É"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if identity.CheckName(name) != nil {
			return
		}
		if name == "" || len(name) > 39 || name != strings.ToLower(name) || strings.ContainsAny(name, "/.\\ \x00%?#:@") || name[0] == '-' {
			t.Errorf("%q was accepted", name)
		}
	})
}

func ExampleService_Visible() {
	var s identity.Service
	condition, _ := s.Visible(identity.Who{}, "repo", "r.id", "r.owner", "r.visibility")
	fmt.Println("SELECT r.name FROM forge_repo r WHERE " + condition)
	// Output: SELECT r.name FROM forge_repo r WHERE r.visibility = 2
}
