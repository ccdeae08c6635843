package identity

import (
	"context"
	"fmt"
	"time"

	"sampan.dev/sampan/internal/db"
)

// An Entry of the audit log says who did what to what.
type Entry struct {
	ID     int64
	At     time.Time
	Person int64 // 0: Sampan itself
	Name   string
	Action string // "repo.delete"
	Object string
	Detail string
}

// Audit takes down what who does, in the transaction that does it. No secrets belong here.
func (s *Service) Audit(ctx context.Context, tx *db.Tx, who Who, action, object, detail string) error {
	const insert = `INSERT INTO identity_audit (at, person, name, action, object, detail) VALUES (?, ?, ?, ?, ?, ?)`
	_, err := tx.Exec(ctx, insert, db.Now(), who.ID, who.Name, action, object, detail)
	if err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	return nil
}

// AuditLog is read by administrators, the newest entry first: those before an entry's
// number, or the last ones when before is 0.
func (s *Service) AuditLog(ctx context.Context, who Who, before int64, limit int) ([]Entry, error) {
	if err := who.mustAdminister(); err != nil {
		return nil, err
	}
	const query = `SELECT id, at, person, name, action, object, detail FROM identity_audit
		WHERE id < ? OR ? = 0 ORDER BY id DESC LIMIT ?`
	return list(ctx, s.db, "the audit log", func(row scanner, e *Entry) error {
		var at db.Time
		err := row.Scan(&e.ID, &at, &e.Person, &e.Name, &e.Action, &e.Object, &e.Detail)
		e.At = at.Time
		return err
	}, query, before, before, limit)
}
