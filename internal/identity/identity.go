// Package identity knows who somebody is and decides what they may do.
//
// People and organisations share one table of owners and so one space of names. Objects
// (repositories, apps) belong to other parts, which ask here by Object: its owner, and the
// roles granted on it to people and teams, decide. A Who is the answer to "who are you":
// nothing, a person, or a person within the scope of a token. Every method checks what who
// may do; what one may not see is NotFound.
//
// Passwords are kept as Argon2id (RFC 9106), sessions, tokens and codes as SHA-256 of 160
// or more random bits, public keys as authorized_keys lines (sshd(8)). Other parts may
// join the views owner (id, name, full_name, org) and person (id, name, full_name, email,
// admin, lang, theme, created). A Service is safe for concurrent use.
package identity

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/identity/internal/limit"
	"sampan.dev/sampan/internal/identity/internal/password"
	"sampan.dev/sampan/internal/secret"
)

//go:embed migrations
var migrations embed.FS

// Config is what a Service needs.
type Config struct {
	DB     *db.DB
	Secret *secret.Box
	Log    *slog.Logger
}

// A Service keeps the identities of one installation.
type Service struct {
	db        *db.DB
	log       *slog.Logger
	setup     string
	passwords *password.Hasher
	proofs    *proofs
	byBoth    *limit.Limiter // failed sign-ins of one name from one address
	byAddress *limit.Limiter
	byName    *limit.Limiter // from all addresses: far more, or anybody could lock anybody out

	mu         sync.Mutex
	belongings map[string]Belongings
}

// Open makes the tables.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := cfg.DB.Migrate(ctx, "identity", files); err != nil {
		return nil, err
	}
	const window = 15 * time.Minute
	return &Service{
		db:        cfg.DB,
		log:       cfg.Log,
		setup:     setupCode(cfg.Secret),
		passwords: password.NewHasher(),
		proofs:    newProofs(),
		byBoth:    limit.New(10, window),
		byAddress: limit.New(60, window),
		byName:    limit.New(300, window),

		belongings: map[string]Belongings{},
	}, nil
}

// Run forgets what has expired, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		if err := s.forgetExpired(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("expired sessions were not deleted", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-hour.C:
		}
	}
}

func (s *Service) forgetExpired(ctx context.Context) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		for _, q := range []string{
			`DELETE FROM identity_session WHERE expires < ?`,
			`DELETE FROM identity_code WHERE expires < ?`,
		} {
			if _, err := tx.Exec(ctx, q, db.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close releases nothing: the database belongs to others.
func (s *Service) Close() error { return nil }
