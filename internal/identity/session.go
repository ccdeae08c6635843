package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

const (
	sessionIdle = 30 * 24 * time.Hour
	sessionLife = 180 * 24 * time.Hour
	touchEvery  = time.Hour // a session's last use is written down no more often
	codeLife    = 10 * time.Minute
)

// newSecret is n random bytes as text, and what is kept of it.
func newSecret(n int) (text string, hash []byte) {
	b := make([]byte, n)
	rand.Read(b)
	text = hex.EncodeToString(b)
	return text, secretHash(text)
}

// secretHash needs no salt: what it hashes was drawn at random.
func secretHash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func (s *Service) newSession(ctx context.Context, q db.Querier, person int64) (string, error) {
	text, hash := newSecret(32)
	now := db.Now()
	_, err := q.Exec(ctx, `INSERT INTO identity_session (hash, person, created, seen, expires) VALUES (?, ?, ?, ?, ?)`,
		hash, person, now, now, db.At(now.Add(sessionIdle)))
	if err != nil {
		return "", fmt.Errorf("begin a session: %w", err)
	}
	return text, nil
}

// Session answers whose session it is. Use keeps it alive, up to half a year.
func (s *Service) Session(ctx context.Context, session string) (Who, error) {
	const query = `SELECT p.id, p.name, p.admin, s.created, s.seen, s.expires FROM identity_session s
		JOIN person p ON p.id = s.person JOIN identity_person i ON i.id = p.id WHERE s.hash = ? AND i.active`
	var who Who
	var created, seen, expires db.Time
	hash := secretHash(session)
	err := s.db.QueryRow(ctx, query, hash).Scan(&who.ID, &who.Name, &who.Admin, &created, &seen, &expires)
	if db.NotFound(err) || err == nil && time.Now().After(expires.Time) {
		return Who{}, fault.SignIn("your session has ended").Try("sign in again")
	}
	if err != nil {
		return Who{}, fmt.Errorf("find the session: %w", err)
	}
	if time.Since(seen.Time) > touchEvery {
		err = s.touchSession(ctx, hash, created.Time)
	}
	return who, err
}

func (s *Service) touchSession(ctx context.Context, hash []byte, created time.Time) error {
	now := time.Now()
	expires := now.Add(sessionIdle)
	if last := created.Add(sessionLife); expires.After(last) {
		expires = last
	}
	_, err := s.db.Exec(ctx, `UPDATE identity_session SET seen = ?, expires = ? WHERE hash = ?`, db.At(now), db.At(expires), hash)
	if fault.Is(err, fault.KindFull) {
		return nil // reading goes on when the disk is full
	}
	return err
}

// Rotate replaces a session by a new one, for when the power of its owner changes.
func (s *Service) Rotate(ctx context.Context, session string) (string, error) {
	who, err := s.Session(ctx, session)
	if err != nil {
		return "", err
	}
	var fresh string
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM identity_session WHERE hash = ?`, secretHash(session)); err != nil {
			return fmt.Errorf("end the session: %w", err)
		}
		fresh, err = s.newSession(ctx, tx, who.ID)
		return err
	})
	return fresh, err
}

// SignOut ends a session.
func (s *Service) SignOut(ctx context.Context, session string) error {
	_, err := s.db.Exec(ctx, `DELETE FROM identity_session WHERE hash = ?`, secretHash(session))
	return err
}

// SignOutEverywhere ends all sessions of a person.
func (s *Service) SignOutEverywhere(ctx context.Context, who Who, person int64) error {
	if err := who.mustAct(person); err != nil {
		return err
	}
	_, err := s.db.Exec(ctx, `DELETE FROM identity_session WHERE person = ?`, person)
	return err
}

// SignInCode answers a code that becomes a session of who, once, within ten minutes. It is
// as much as a password, so a token with a scope gets none.
func (s *Service) SignInCode(ctx context.Context, who Who) (code string, err error) {
	switch {
	case who.ID == 0:
		return "", fault.SignIn("sign in first")
	case who.Scope != nil:
		return "", fault.Forbidden("this token may not sign in to the pages").Try("use one without restrictions")
	}
	code, hash := newSecret(20)
	_, err = s.db.Exec(ctx, `INSERT INTO identity_code (hash, person, expires) VALUES (?, ?, ?)`,
		hash, who.ID, db.At(time.Now().Add(codeLife)))
	return code, err
}

// Redeem turns a code into a session.
func (s *Service) Redeem(ctx context.Context, code string) (session string, err error) {
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		var person int64
		var expires db.Time
		const take = `DELETE FROM identity_code WHERE hash = ? RETURNING person, expires`
		err := tx.QueryRow(ctx, take, secretHash(code)).Scan(&person, &expires)
		if db.NotFound(err) || err == nil && time.Now().After(expires.Time) {
			return fault.SignIn("this sign-in link has been used or is too old").Try("ask for a new one")
		}
		if err != nil {
			return fmt.Errorf("redeem the code: %w", err)
		}
		if _, err := whoByID(ctx, tx, person); err != nil {
			return err
		}
		session, err = s.newSession(ctx, tx, person)
		return err
	})
	return session, err
}

// WhoByID is a person without a restriction, for work that Sampan does on their behalf.
func (s *Service) WhoByID(ctx context.Context, person int64) (Who, error) {
	return whoByID(ctx, s.db, person)
}

func whoByID(ctx context.Context, q db.Querier, person int64) (who Who, err error) {
	const query = `SELECT o.id, o.name, p.admin FROM identity_person p JOIN identity_owner o ON o.id = p.id WHERE p.id = ? AND p.active`
	if err := q.QueryRow(ctx, query, person).Scan(&who.ID, &who.Name, &who.Admin); err != nil {
		return Who{}, notFoundPerson(err)
	}
	return who, nil
}
