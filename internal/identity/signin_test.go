package identity_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

func TestASessionLastsUntilSignOut(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann := withPassword(t, s, "ann")
		session, err := s.SignIn(ctx, " Ann ", password, "127.0.0.1:5")
		must(t, err)
		who, err := s.Session(ctx, session)
		if err != nil || who != ann {
			t.Errorf("the session is of %+v, %v", who, err)
		}
		fresh, err := s.Rotate(ctx, session)
		must(t, err)
		_, err = s.Session(ctx, session)
		kind(t, "a replaced session", err, fault.KindSignIn)
		must(t, s.SignOut(ctx, fresh))
		_, err = s.Session(ctx, fresh)
		kind(t, "after sign-out", err, fault.KindSignIn)
		other, err := s.SignIn(ctx, "ann", password, "127.0.0.1:5")
		must(t, err)
		must(t, s.SignOutEverywhere(ctx, ann, ann.ID))
		_, err = s.Session(ctx, other)
		kind(t, "after sign-out everywhere", err, fault.KindSignIn)
		for _, bad := range []string{"", "x", strings.Repeat("0", 64)} {
			_, err = s.Session(ctx, bad)
			kind(t, "session "+bad, err, fault.KindSignIn)
		}
	})
}

func TestSecretsAreNotInTheDatabase(t *testing.T) {
	d := dbtest.SQLite(t)
	s := open(t, d)
	ann := withPassword(t, s, "ann")
	session, err := s.SignIn(t.Context(), "ann", password, "")
	must(t, err)
	token, _, err := s.NewToken(t.Context(), ann, "ci", nil)
	must(t, err)
	code, err := s.SignInCode(t.Context(), ann)
	must(t, err)
	for _, secret := range []string{session, token, code, password} {
		for _, column := range []string{"identity_session.hash", "identity_token.hash", "identity_code.hash", "identity_person.password"} {
			table, name, _ := strings.Cut(column, ".")
			var n int
			query := fmt.Sprintf("SELECT count(*) FROM %s WHERE instr(CAST(%s AS TEXT), ?) > 0 OR lower(hex(%s)) = ?", table, name, name)
			must(t, d.QueryRow(t.Context(), query, secret, secret).Scan(&n))
			if n > 0 {
				t.Errorf("%s holds a secret", column)
			}
		}
	}
}

func TestAWrongNameAndAWrongPasswordAreTheSame(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		withPassword(t, s, "ann")
		person(t, s, "bob") // has none
		closed := withPassword(t, s, "carl")
		administrator(t, s, "boss")
		must(t, s.SetActive(ctx, identity.System(), closed.ID, false))
		var said []string
		for name, pass := range map[string]string{"ann": "wrong", "ghost": password, "bob": "", "carl": password, "": ""} {
			_, err := s.SignIn(ctx, name, pass, "10.0.0.1:1")
			kind(t, name, err, fault.KindSignIn)
			said = append(said, err.Error())
		}
		for _, text := range said {
			if text != said[0] {
				t.Errorf("%q is not %q", text, said[0])
			}
		}
	})
}

func TestTooManyFailuresMustWait(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	ctx := t.Context()
	withPassword(t, s, "ann")
	attack := func(from string, n int) (err error) {
		for range n {
			_, err = s.SignIn(ctx, "ann", "wrong", from)
		}
		return err
	}
	kind(t, "ten failures", attack("10.0.0.1:1", 10), fault.KindSignIn)
	kind(t, "the eleventh", attack("10.0.0.1:2", 1), fault.KindTooMany)
	_, err := s.SignIn(ctx, "ann", password, "10.0.0.1:3")
	kind(t, "even the right one", err, fault.KindTooMany)
	_, err = s.SignIn(ctx, "ann", password, "10.0.0.2:1")
	if err != nil {
		t.Errorf("from elsewhere ann is locked out: %v", err)
	}
	for i := range 12 {
		_, err = s.SignIn(ctx, "ann", "wrong", fmt.Sprintf("[2001:db8:1:2::%x]:9", i))
	}
	kind(t, "from one IPv6 network", err, fault.KindTooMany)
}

func TestAFloodOfSignInsIsBounded(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	var all sync.WaitGroup
	kinds := make(chan fault.Kind, 48)
	for i := range cap(kinds) {
		all.Go(func() {
			_, err := s.SignIn(t.Context(), fmt.Sprint("ghost", i), "x", fmt.Sprintf("10.1.0.%d:1", i))
			f, _ := fault.Of(err)
			kinds <- f.Kind
		})
	}
	all.Wait()
	close(kinds)
	count := map[fault.Kind]int{}
	for k := range kinds {
		count[k]++
	}
	if count[fault.KindUnavailable]+count[fault.KindSignIn] != cap(kinds) || count[fault.KindSignIn] < 32 {
		t.Errorf("answers by kind: %v", count)
	}
}

func TestManyRightPasswordsAtOnceAreNoAttack(t *testing.T) {
	s := open(t, dbtest.SQLite(t))
	withPassword(t, s, "ann")
	var all sync.WaitGroup
	for range 25 {
		all.Go(func() {
			if _, err := s.Verify(t.Context(), "ann", password, "10.0.0.1:1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestANewPasswordEndsTheSessions(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann, boss, bob := withPassword(t, s, "ann"), administrator(t, s, "boss"), person(t, s, "bob")
		session, err := s.SignIn(ctx, "ann", password, "")
		must(t, err)
		const next = "battery staple"
		kind(t, "without the old one", s.SetPassword(ctx, ann, ann.ID, "wrong", next), fault.KindForbidden)
		kind(t, "by another", s.SetPassword(ctx, bob, ann.ID, password, next), fault.KindNotFound)
		kind(t, "a weak one", s.SetPassword(ctx, ann, ann.ID, password, "x"), fault.KindInvalid)
		must(t, s.SetPassword(ctx, ann, ann.ID, password, next))
		_, err = s.Session(ctx, session)
		kind(t, "the old session", err, fault.KindSignIn)
		_, err = s.SignIn(ctx, "ann", password, "")
		kind(t, "the old password", err, fault.KindSignIn)
		must(t, s.SetPassword(ctx, boss, ann.ID, "", password))
		_, err = s.SignIn(ctx, "ann", password, "")
		must(t, err)
	})
}

func TestASignInCodeWorksOnce(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann := person(t, s, "ann")
		code, err := s.SignInCode(ctx, ann)
		must(t, err)
		session, err := s.Redeem(ctx, code)
		must(t, err)
		if who, err := s.Session(ctx, session); err != nil || who.ID != ann.ID {
			t.Errorf("%+v, %v", who, err)
		}
		_, err = s.Redeem(ctx, code)
		kind(t, "the second time", err, fault.KindSignIn)
		code, err = s.SignInCode(ctx, ann)
		must(t, err)
		_, err = d.Exec(ctx, `UPDATE identity_code SET expires = ?`, db.At(time.Now().Add(-time.Second)))
		must(t, err)
		_, err = s.Redeem(ctx, code)
		kind(t, "an old one", err, fault.KindSignIn)
		_, err = s.SignInCode(ctx, identity.Who{})
		kind(t, "for a stranger", err, fault.KindSignIn)
		ann.Scope = &identity.Scope{Rights: identity.Rights()}
		_, err = s.SignInCode(ctx, ann)
		kind(t, "for a token with a scope", err, fault.KindForbidden)
	})
}

func TestEveryWayToSayWhoOneIs(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann := withPassword(t, s, "ann")
		token, _, err := s.NewToken(ctx, ann, "laptop", nil)
		must(t, err)
		session, err := s.SignIn(ctx, "ann", password, "")
		must(t, err)
		cookie := httptest.NewRecorder()
		identity.SetCookie(cookie, session, false)
		basic := func(name, pass string) func(*http.Request) {
			return func(r *http.Request) { r.SetBasicAuth(name, pass) }
		}
		header := func(value string) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("Authorization", value) }
		}
		for _, test := range []struct {
			what string
			say  func(*http.Request)
			who  int64
			ok   bool
		}{
			{"nothing", func(*http.Request) {}, 0, true},
			{"a password", basic("ann", password), ann.ID, true},
			{"the same again", basic("ann", password), ann.ID, true},
			{"a wrong password", basic("ann", "wrong"), 0, false},
			{"a token as password", basic("ann", token), ann.ID, true},
			{"a token as name", basic(token, ""), ann.ID, true},
			{"a bearer token", header("Bearer " + token), ann.ID, true},
			{"a prefixed token", header("bearer sampan_" + token), ann.ID, true},
			{"a token as Deis sends it", header("token " + token), ann.ID, true},
			{"a wrong token", header("token " + strings.Repeat("0", 40)), 0, false},
			{"half a token", header("token " + token[:20]), 0, false},
			{"an unknown scheme", header("Digest x"), 0, false},
			{"damaged Basic", header("Basic %%%"), 0, false},
			{"an empty header value", header(" "), 0, false},
			{"a session", func(r *http.Request) { r.AddCookie(cookie.Result().Cookies()[0]) }, ann.ID, true},
			{"an old session", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "sampan_session", Value: "x"}) }, 0, true},
		} {
			r := httptest.NewRequest("GET", "/", nil)
			test.say(r)
			who, err := s.Authenticate(r)
			if who.ID != test.who || (err == nil) != test.ok {
				t.Errorf("%s: %+v, %v", test.what, who, err)
			}
			if err != nil {
				kind(t, test.what, err, fault.KindSignIn)
			}
		}
		for name, value := range map[string]string{"sampan_session": "", "__Host-sampan_session": session} {
			r := httptest.NewRequest("GET", "https://example.org/", nil)
			r.AddCookie(&http.Cookie{Name: "sampan_session", Value: session}) // any app could have set it
			r.AddCookie(&http.Cookie{Name: name, Value: value})
			if who, err := s.Authenticate(r); (who.ID == ann.ID) != (value != "") || err != nil {
				t.Errorf("on TLS the cookie %s is %+v, %v", name, who, err)
			}
		}
	})
}

func TestAnExpiredSessionIsForgotten(t *testing.T) {
	d := dbtest.SQLite(t)
	s := open(t, d)
	ctx := t.Context()
	withPassword(t, s, "ann")
	session, err := s.SignIn(ctx, "ann", password, "")
	must(t, err)
	_, err = d.Exec(ctx, `UPDATE identity_session SET expires = ?`, db.At(time.Now().Add(-time.Second)))
	must(t, err)
	_, err = s.Session(ctx, session)
	kind(t, "an expired session", err, fault.KindSignIn)
}
