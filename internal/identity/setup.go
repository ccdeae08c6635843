package identity

import (
	"context"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"strings"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/secret"
)

// setupCode is the same at each start, without being stored: it comes from the secret key.
func setupCode(box *secret.Box) string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(box.Derive("set-up code")[:15]))
}

// SetupCode is what the first person proves with that the machine is theirs, or "" once
// there is a person.
func (s *Service) SetupCode(ctx context.Context) (code string, err error) {
	some, err := somebody(ctx, s.db)
	if err != nil || some {
		return "", err
	}
	return s.setup, nil
}

func somebody(ctx context.Context, q db.Querier) (some bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM identity_person)`).Scan(&some)
	if err != nil {
		return false, fmt.Errorf("look for people: %w", err)
	}
	return some, nil
}

// Setup makes the first person, an administrator, once.
func (s *Service) Setup(ctx context.Context, code string, n NewPerson) (Person, error) {
	if err := s.checkSetup(ctx, s.db, code); err != nil {
		return Person{}, err
	}
	n.Admin = true
	if err := n.check(); err != nil {
		return Person{}, err
	}
	if n.Password == "" {
		return Person{}, fault.Invalid("a password is missing").On("password")
	}
	hash, err := s.passwords.Hash(ctx, n.Password)
	if err != nil {
		return Person{}, err
	}
	var p Person
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		if err := s.checkSetup(ctx, tx, code); err != nil {
			return err
		}
		if p, err = insertPerson(ctx, tx, n, hash); err != nil {
			return err
		}
		return s.Audit(ctx, tx, Who{ID: p.ID, Name: p.Name}, "person.setup", p.Name, "")
	})
	return p, err
}

func (s *Service) checkSetup(ctx context.Context, q db.Querier, code string) error {
	some, err := somebody(ctx, q)
	if err != nil {
		return err
	}
	code = strings.ToLower(strings.TrimSpace(code))
	if some || subtle.ConstantTimeCompare([]byte(code), []byte(s.setup)) != 1 {
		return fault.NotFound("this set-up link is not valid").Try("use the one that the server printed at its start; it ends with the first account").On("code")
	}
	return nil
}
