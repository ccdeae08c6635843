package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/event"
)

// intend writes down that refs are about to move.
func (s *Service) intend(ctx context.Context, p Push) error {
	updates, err := json.Marshal(p.Updates)
	if err != nil {
		return err
	}
	const insert = `INSERT INTO forge_push (id, repo, path, pusher, pusher_name, updates, at) VALUES (?, ?, ?, ?, ?, ?, ?)`
	if _, err := s.cfg.DB.Exec(ctx, insert, p.ID, p.Repo, p.Path, p.Pusher, p.PusherName, string(updates), db.At(p.At)); err != nil {
		return fmt.Errorf("write down the push: %w", err)
	}
	return nil
}

// settle says that the refs moved: the row and the event commit together.
func (s *Service) settle(ctx context.Context, p Push) error {
	updates, err := json.Marshal(p.Updates)
	if err != nil {
		return err
	}
	return s.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		const update = `UPDATE forge_push SET settled = 1, updates = ? WHERE id = ? AND settled = 0`
		done, err := tx.Exec(ctx, update, string(updates), p.ID)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err // settled by somebody else: the event is out
		}
		if s.cfg.Moved != nil {
			if err := s.cfg.Moved(ctx, tx, p); err != nil {
				return err
			}
		}
		return event.Emit(ctx, s.cfg.Events, tx, Pushed, p)
	})
}

// forget takes an intent back: no ref moved.
func (s *Service) forget(ctx context.Context, id string) error {
	_, err := s.cfg.DB.Exec(ctx, `DELETE FROM forge_push WHERE id = ? AND settled = 0`, id)
	return err
}

// settleAll settles what was interrupted, in every repository that has something.
func (s *Service) settleAll(ctx context.Context) error {
	pending, err := s.pending(ctx)
	if err != nil {
		return fmt.Errorf("find interrupted pushes: %w", err)
	}
	for _, p := range pending {
		release, err := s.turns.take(ctx, s.cfg.Dir(p.Repo).Dir(), func() {})
		if err != nil {
			return err
		}
		err = s.settlePending(ctx, p)
		release()
		if err != nil {
			return fmt.Errorf("settle push %s to %s: %w", p.ID, p.Path, err)
		}
	}
	return nil
}

// settleRepo is settleAll for one repository, by a caller who has the turn. It comes
// before each push: once refs move again, nobody can tell whether the last push moved them.
func (s *Service) settleRepo(ctx context.Context, repo int64) error {
	pending, err := s.pending(ctx)
	if err != nil {
		return err
	}
	for _, p := range pending {
		if p.Repo != repo {
			continue
		}
		if err := s.settlePending(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// pending lists unsettled pushes, oldest first. There are hardly ever any.
func (s *Service) pending(ctx context.Context) ([]Push, error) {
	const query = `SELECT id, repo, path, pusher, pusher_name, updates, at FROM forge_push WHERE settled = 0 ORDER BY at`
	rows, err := s.cfg.DB.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Push
	for rows.Next() {
		var p Push
		var updates string
		var at db.Time
		if err := rows.Scan(&p.ID, &p.Repo, &p.Path, &p.Pusher, &p.PusherName, &updates, &at); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(updates), &p.Updates); err != nil {
			return nil, fmt.Errorf("push %s: %w", p.ID, err)
		}
		p.At = at.Time
		list = append(list, p)
	}
	return list, rows.Err()
}

// settlePending looks which refs stand where the push wanted them.
func (s *Service) settlePending(ctx context.Context, p Push) error {
	repo := s.cfg.Dir(p.Repo)
	if _, err := os.Stat(repo.Dir()); errors.Is(err, fs.ErrNotExist) {
		return s.forget(ctx, p.ID)
	}
	names := make([]string, len(p.Updates))
	for i, u := range p.Updates {
		names[i] = u.Ref
	}
	now, err := repo.Lookup(ctx, names)
	if err != nil {
		return err
	}
	var moved []Update
	for _, u := range p.Updates {
		at, exists := now[u.Ref]
		if at == u.New || !exists && u.New == wire.ZeroID {
			moved = append(moved, u)
		}
	}
	s.cfg.Log.Info("interrupted push settled", "push", p.ID, "repo", p.Path, "moved", len(moved), "of", len(p.Updates))
	if len(moved) == 0 {
		return s.forget(ctx, p.ID)
	}
	p.Updates = moved
	return s.settle(ctx, p)
}
