package repo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// Changes to a repository; nil leaves a field as it is.
type Changes struct {
	Name        *string
	Description *string
	Visibility  *identity.Visibility
	Default     *string
}

func (c Changes) apply(r Repo) Repo {
	if c.Name != nil {
		r.Name = *c.Name
	}
	if c.Description != nil {
		r.Description = strings.TrimSpace(*c.Description)
	}
	if c.Visibility != nil {
		r.Visibility = *c.Visibility
	}
	if c.Default != nil {
		r.Default = *c.Default
	}
	return r
}

// Update changes a repository.
func (s *Service) Update(ctx context.Context, who identity.Who, id int64, c Changes) (Repo, error) {
	old, err := s.ByID(ctx, who, identity.Manage, id)
	if err != nil {
		return Repo{}, err
	}
	r := c.apply(old)
	if err := r.check(); err != nil {
		return Repo{}, err
	}
	if r.Default != old.Default {
		if err := s.Git(id).SetHead(ctx, r.Default); err != nil {
			return Repo{}, err
		}
	}
	err = s.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		const update = `UPDATE forge_repo SET name = ?, name_key = ?, description = ?, visibility = ?, default_branch = ? WHERE id = ?`
		_, err := tx.Exec(ctx, update, r.Name, strings.ToLower(r.Name), r.Description, int(r.Visibility), r.Default, id)
		if db.Unique(err) {
			return fault.Conflict("%s has a repository called %s already", r.Owner, r.Name).On("name")
		}
		if err != nil {
			return fmt.Errorf("change repository: %w", err)
		}
		return s.cfg.Identity.Audit(ctx, tx, who, "repo.change", r.Path(), old.Path())
	})
	return r, err
}

// Moved takes down that refs moved, in the transaction that announces it. created are the
// branches that are new: while the default branch does not exist, the first of them
// becomes it, because whoever pushes "trunk" to an empty repository means that.
func (s *Service) Moved(ctx context.Context, tx *db.Tx, id int64, at time.Time, created []string) error {
	if _, err := tx.Exec(ctx, `UPDATE forge_repo SET pushed = ? WHERE id = ?`, db.At(at), id); err != nil {
		return err
	}
	if len(created) == 0 {
		return nil
	}
	var now string
	if err := tx.QueryRow(ctx, `SELECT default_branch FROM forge_repo WHERE id = ?`, id).Scan(&now); err != nil {
		if db.NotFound(err) {
			return nil // deleted meanwhile
		}
		return err
	}
	g := s.Git(id)
	found, err := g.Lookup(ctx, []string{"refs/heads/" + now})
	if err != nil || len(found) > 0 || !git.ValidBranch(created[0]) {
		return err
	}
	if err := g.SetHead(ctx, created[0]); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE forge_repo SET default_branch = ? WHERE id = ?`, created[0], id)
	return err
}

// Delete removes a repository and all that is in it.
func (s *Service) Delete(ctx context.Context, who identity.Who, id int64) error {
	r, err := s.ByID(ctx, who, identity.Manage, id)
	if err != nil {
		return err
	}
	err = s.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM forge_repo WHERE id = ?`, id); err != nil {
			return err
		}
		if err := s.cfg.Identity.ForgetObject(ctx, tx, Kind, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO forge_doomed (id) VALUES (?)`, id); err != nil {
			return err
		}
		return s.cfg.Identity.Audit(ctx, tx, who, "repo.delete", r.Path(), "")
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", r.Path(), err)
	}
	if err := s.removeDoomed(ctx); err != nil {
		// It is gone for everybody; the files go at the next start.
		s.cfg.Log.Error("files of a deleted repository remain", "repo", r.Path(), "err", err)
	}
	return nil
}

// removeDoomed removes the directories of deleted repositories. Nothing else removes
// one: a directory that the database does not know may be all that is left of something.
func (s *Service) removeDoomed(ctx context.Context) error {
	ids, err := s.doomed(ctx)
	if err != nil {
		return fmt.Errorf("find deleted repositories: %w", err)
	}
	for _, id := range ids {
		if err := s.Git(id).Remove(); err != nil {
			return err
		}
		if _, err := s.cfg.DB.Exec(ctx, `DELETE FROM forge_doomed WHERE id = ?`, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) doomed(ctx context.Context) ([]int64, error) {
	rows, err := s.cfg.DB.Query(ctx, `SELECT id FROM forge_doomed`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
