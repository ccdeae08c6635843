package identity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// A Token lets a program act for a person.
type Token struct {
	ID      int64
	Name    string
	Scope   *Scope // nil: all that the person may
	Created time.Time
	Used    time.Time // zero: never; not more exact than an hour
}

const (
	tokenSize   = 20 // bytes: 40 digits, which is what clients of Deis expect
	tokenPrefix = "sampan_"
)

// parseToken answers the digits of a token, which may be written with a prefix that
// secret scanners know.
func parseToken(text string) (string, bool) {
	text = strings.TrimPrefix(text, tokenPrefix)
	ok := len(text) == 2*tokenSize && strings.Trim(text, "0123456789abcdef") == ""
	return text, ok
}

// NewToken makes a token; the secret is shown once. A token cannot make one that may more
// than itself.
func (s *Service) NewToken(ctx context.Context, who Who, name string, scope *Scope) (secret string, t Token, err error) {
	t = Token{Name: strings.TrimSpace(name), Scope: scope}
	if err := who.mustAct(who.ID); err != nil {
		return "", Token{}, err
	}
	if who.ID == 0 {
		return "", Token{}, fault.Invalid("a token belongs to a person")
	}
	if t.Name == "" {
		return "", Token{}, fault.Invalid("a name is missing").Try("say what the token is for").On("name")
	}
	if err := checkText("name", t.Name, 100); err != nil {
		return "", Token{}, err
	}
	if err := scope.check(); err != nil {
		return "", Token{}, err
	}
	if !scope.within(who.Scope) {
		return "", Token{}, fault.Forbidden("a token cannot make one that may more than itself").On("rights")
	}
	return s.insertToken(ctx, who, t)
}

func (s *Service) insertToken(ctx context.Context, who Who, t Token) (string, Token, error) {
	column, err := t.Scope.encode()
	if err != nil {
		return "", Token{}, err
	}
	secret, hash := newSecret(tokenSize)
	now := db.Now()
	t.Created = now.Time
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		const insert = `INSERT INTO identity_token (person, name, hash, scope, created) VALUES (?, ?, ?, ?, ?) RETURNING id`
		err := tx.QueryRow(ctx, insert, who.ID, t.Name, hash, column, now).Scan(&t.ID)
		if db.Unique(err) {
			return fault.Conflict("you have a token called %q already", t.Name).Try("choose another name").On("name")
		}
		if err != nil {
			return fmt.Errorf("make a token: %w", err)
		}
		return s.Audit(ctx, tx, who, "token.create", t.Name, "")
	})
	if err != nil {
		return "", Token{}, err
	}
	return secret, t, nil
}

// Tokens lists the tokens of a person, the newest first.
func (s *Service) Tokens(ctx context.Context, who Who, person int64) ([]Token, error) {
	if err := who.mustAct(person); err != nil {
		return nil, err
	}
	const query = `SELECT id, name, scope, created, used FROM identity_token WHERE person = ? ORDER BY id DESC`
	return list(ctx, s.db, "tokens", func(row scanner, t *Token) error {
		var scope *string
		var created, used db.Time
		if err := row.Scan(&t.ID, &t.Name, &scope, &created, &used); err != nil {
			return err
		}
		var err error
		t.Created, t.Used = created.Time, used.Time
		t.Scope, err = decodeScope(scope)
		return err
	}, query, person)
}

// RevokeToken ends a token.
func (s *Service) RevokeToken(ctx context.Context, who Who, id int64) error {
	return s.removeOwn(ctx, who, "token", `SELECT person, name FROM identity_token WHERE id = ?`, `DELETE FROM identity_token WHERE id = ?`, id)
}

// removeOwn deletes something that belongs to a person's account.
func (s *Service) removeOwn(ctx context.Context, who Who, what, find, remove string, id int64) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		var person int64
		var name string
		err := tx.QueryRow(ctx, find, id).Scan(&person, &name)
		if db.NotFound(err) || err == nil && !who.acts(person) && who.ID != person {
			return fault.NotFound("there is no such %s", what)
		}
		if err != nil {
			return fmt.Errorf("remove a %s: %w", what, err)
		}
		if err := who.mustAct(person); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, remove, id); err != nil {
			return fmt.Errorf("remove a %s: %w", what, err)
		}
		return s.Audit(ctx, tx, who, what+".remove", name, "")
	})
}

// ByToken answers whose token it is, within its scope.
func (s *Service) ByToken(ctx context.Context, secret string) (Who, error) {
	secret, ok := parseToken(secret)
	if !ok {
		return Who{}, wrongToken()
	}
	const query = `SELECT t.id, t.scope, t.used, o.id, o.name, p.admin FROM identity_token t
		JOIN identity_person p ON p.id = t.person JOIN identity_owner o ON o.id = p.id WHERE t.hash = ? AND p.active`
	var id int64
	var scope *string
	var used db.Time
	var who Who
	err := s.db.QueryRow(ctx, query, secretHash(secret)).Scan(&id, &scope, &used, &who.ID, &who.Name, &who.Admin)
	if db.NotFound(err) {
		return Who{}, wrongToken()
	}
	if err != nil {
		return Who{}, fmt.Errorf("find the token: %w", err)
	}
	if who.Scope, err = decodeScope(scope); err != nil {
		return Who{}, fmt.Errorf("the scope of token %d: %w", id, err)
	}
	return who, s.touch(ctx, used, `UPDATE identity_token SET used = ? WHERE id = ?`, id)
}

func wrongToken() error {
	return fault.SignIn("this token is not valid").Try("make a new one on your settings page or with: sampan login")
}

// touch writes the last use down, at most once an hour; a full disk does not matter here.
func (s *Service) touch(ctx context.Context, used db.Time, update string, id int64) error {
	now := db.Now()
	if now.Sub(used.Time) < touchEvery {
		return nil
	}
	_, err := s.db.Exec(ctx, update, now, id)
	if fault.Is(err, fault.KindFull) {
		return nil
	}
	return err
}
