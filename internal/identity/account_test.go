package identity_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

func sqlite(t testing.TB) *db.DB { return dbtest.SQLite(t) }

func sshKey(t testing.TB, public any) ssh.PublicKey {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519Key(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshKey(t, public)
}

func rsaKey(t testing.TB, bits int) ssh.PublicKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return sshKey(t, &private.PublicKey)
}

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

func TestAKeyLetsItsPersonIn(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann, bob := person(t, s, "ann"), person(t, s, "bob")
		key := ed25519Key(t)
		k, err := s.AddKey(ctx, ann, "", line(key)+" ann@laptop\n")
		must(t, err)
		if k.Title != "ann@laptop" || k.Public != line(key) || k.Fingerprint != ssh.FingerprintSHA256(key) {
			t.Errorf("the key is %+v", k)
		}
		who, found, err := s.ByKey(ctx, key.Marshal())
		if err != nil || who.ID != ann.ID || found.ID != k.ID {
			t.Errorf("the key is of %+v, %v", who, err)
		}
		_, err = s.AddKey(ctx, bob, "mine", line(key))
		kind(t, "a key of another", err, fault.KindConflict)
		_, _, err = s.ByKey(ctx, ed25519Key(t).Marshal())
		kind(t, "an unknown key", err, fault.KindSignIn)
		_, _, err = s.ByKey(ctx, []byte("rubbish"))
		kind(t, "rubbish", err, fault.KindSignIn)
		kind(t, "removed by another", s.RemoveKey(ctx, bob, k.ID), fault.KindNotFound)
		must(t, s.RemoveKey(ctx, ann, k.ID))
		_, _, err = s.ByKey(ctx, key.Marshal())
		kind(t, "a removed key", err, fault.KindSignIn)
		keys, err := s.Keys(ctx, ann, ann.ID)
		if err != nil || len(keys) != 0 {
			t.Errorf("keys: %v, %v", keys, err)
		}
	})
}

func TestAClosedAccountOpensNoDoor(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		administrator(t, s, "boss")
		ann := person(t, s, "ann")
		key := ed25519Key(t)
		_, err := s.AddKey(ctx, ann, "", line(key))
		must(t, err)
		token, _, err := s.NewToken(ctx, ann, "ci", nil)
		must(t, err)
		code, err := s.SignInCode(ctx, ann)
		must(t, err)
		must(t, s.SetActive(ctx, identity.System(), ann.ID, false))
		_, _, err = s.ByKey(ctx, key.Marshal())
		kind(t, "by key", err, fault.KindSignIn)
		_, err = s.ByToken(ctx, token)
		kind(t, "by token", err, fault.KindSignIn)
		_, err = s.Redeem(ctx, code)
		kind(t, "by code", err, fault.KindSignIn)
	})
}

func TestWhichKeysAreAccepted(t *testing.T) {
	number := big.NewInt(0).SetBit(big.NewInt(1), 1023, 1)
	small := big.NewInt(0).SetBit(big.NewInt(1), 159, 1)
	body := ssh.Marshal(struct {
		Kind       string
		P, Q, G, Y *big.Int
	}{"ssh-dss", number, small, big.NewInt(2), big.NewInt(4)})
	dss := "ssh-dss " + base64.StdEncoding.EncodeToString(body)
	good := line(ed25519Key(t))
	for what, text := range map[string]string{
		"ed25519":             good,
		"ed25519 and comment": "  " + good + " ann's laptop, the red one ",
		"RSA of 2048 bits":    line(rsaKey(t, 2048)),
	} {
		if _, err := identity.ParseKey(text); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, text := range map[string]string{
		"nothing":          "",
		"a comment":        "# key",
		"two lines":        good + "\n" + good,
		"an option":        `command="rm" ` + good,
		"RSA of 1024 bits": line(rsaKey(t, 1024)),
		"DSA":              dss,
		"half a key":       good[:40],
		"another kind":     strings.Replace(good, "ssh-ed25519", "ssh-rsa", 1),
		"a private key":    "-----BEGIN OPENSSH PRIVATE KEY-----",
		"a certificate":    "ssh-ed25519-cert-v01@openssh.com AAAA",
	} {
		_, err := identity.ParseKey(text)
		kind(t, what, err, fault.KindInvalid)
	}
}

func FuzzKey(f *testing.F) {
	f.Add(line(ed25519Key(f)))
	f.Add("ssh-rsa AAAA")
	f.Add(`command="x" ssh-ed25519 AAAA`)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := identity.ParseKey(text)
		if err != nil {
			if !fault.Is(err, fault.KindInvalid) {
				t.Errorf("an error that nobody can read: %v", err)
			}
			return
		}
		again, err := identity.ParseKey(k.Public)
		if err != nil || again.Fingerprint != k.Fingerprint || again.Public != k.Public {
			t.Errorf("%q came back as %+v, %v", text, again, err)
		}
	})
}

func TestATokenActsWithinItsScope(t *testing.T) {
	each(t, func(t *testing.T, s *identity.Service, d *db.DB) {
		ctx := t.Context()
		ann, bob := person(t, s, "ann"), person(t, s, "bob")
		scope := &identity.Scope{Rights: []identity.Right{identity.RightRepoRead}, Objects: []identity.ObjectRef{{Kind: "repo", ID: 7}}}
		secret, token, err := s.NewToken(ctx, ann, "ci", scope)
		must(t, err)
		if len(secret) != 40 {
			t.Errorf("the secret has %d digits", len(secret))
		}
		who, err := s.ByToken(ctx, "sampan_"+secret)
		if err != nil || who.ID != ann.ID || who.Can(identity.RightRepoWrite) || !who.Can(identity.RightRepoRead) || who.Scope.Objects[0].ID != 7 {
			t.Errorf("the token is %+v, %v", who, err)
		}
		_, _, err = s.NewToken(ctx, who, "more", nil)
		kind(t, "a token made by it", err, fault.KindForbidden)
		_, err = s.AddKey(ctx, who, "", line(ed25519Key(t)))
		kind(t, "a key added by it", err, fault.KindForbidden)
		kind(t, "its own end", s.RevokeToken(ctx, who, token.ID), fault.KindForbidden)
		kind(t, "its end by another", s.RevokeToken(ctx, bob, token.ID), fault.KindNotFound)
		list, err := s.Tokens(ctx, ann, ann.ID)
		if err != nil || len(list) != 1 || list[0].Name != "ci" || list[0].Used.IsZero() || len(list[0].Scope.Objects) != 1 {
			t.Errorf("tokens: %+v, %v", list, err)
		}
		must(t, s.RevokeToken(ctx, ann, token.ID))
		_, err = s.ByToken(ctx, secret)
		kind(t, "after its end", err, fault.KindSignIn)
	})
}

func TestATokenCannotMakeMoreOfItself(t *testing.T) {
	s := open(t, sqlite(t))
	ctx := t.Context()
	ann := person(t, s, "ann")
	rights := func(r ...identity.Right) *identity.Scope { return &identity.Scope{Rights: r} }
	_, _, err := s.NewToken(ctx, ann, "first", nil)
	must(t, err)
	ann.Scope = rights(identity.RightPerson, identity.RightRepoWrite)
	for i, test := range []struct {
		scope *identity.Scope
		kind  fault.Kind
		ok    bool
	}{
		{rights(identity.RightRepoRead), 0, true},
		{rights(identity.RightRepoWrite), 0, true},
		{rights(identity.RightAppRead), fault.KindForbidden, false},
		{nil, fault.KindForbidden, false},
		{rights(), fault.KindInvalid, false},
		{rights("root"), fault.KindInvalid, false},
		{&identity.Scope{Rights: []identity.Right{identity.RightPerson}, Objects: []identity.ObjectRef{{Kind: "repo", ID: 1}}}, fault.KindInvalid, false},
	} {
		_, _, err := s.NewToken(ctx, ann, strings.Repeat("x", i+1), test.scope)
		if test.ok {
			must(t, err)
		} else {
			kind(t, "a wider token", err, test.kind)
		}
	}
	_, _, err = s.NewToken(ctx, ann, "x", rights(identity.RightRepoRead))
	kind(t, "a second of the name", err, fault.KindConflict)
}

func FuzzByToken(f *testing.F) {
	s := open(f, sqlite(f))
	f.Add("sampan_" + strings.Repeat("0", 40))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		who, err := s.ByToken(t.Context(), text)
		if !fault.Is(err, fault.KindSignIn) || who.ID != 0 {
			t.Errorf("%q is the token of %+v, %v", text, who, err)
		}
	})
}
