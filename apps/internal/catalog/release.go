package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// The states of a release. Pending ones are finished or failed after a crash.
const (
	Pending = "pending"
	Live    = "live"   // serves, or did until a later one replaced it
	Failed  = "failed" // never served; Reason says why
)

// A Release is one build with one configuration.
type Release struct {
	ID       int64
	UUID     string
	App      int64
	Version  int
	Author   string
	BuildID  int64 // 0: nothing to run
	ConfigID int64
	Build    string // uuids
	Config   string
	Summary  string
	State    string
	Reason   string
	Created  time.Time
}

// Failed reports whether the release never served.
func (r Release) Failed() bool { return r.State == Failed }

const releaseQuery = `SELECT r.id, r.uuid, r.app_id, r.version, r.author, r.build_id, r.config_id, b.uuid, c.uuid,
	r.summary, r.state, r.reason, r.created
	FROM apps_release r JOIN apps_config c ON c.id = r.config_id LEFT JOIN apps_build b ON b.id = r.build_id `

func scanRelease(row scanner) (Release, error) {
	var r Release
	var buildID sql.NullInt64
	var build sql.NullString
	var created db.Time
	err := row.Scan(&r.ID, &r.UUID, &r.App, &r.Version, &r.Author, &buildID, &r.ConfigID, &build, &r.Config,
		&r.Summary, &r.State, &r.Reason, &created)
	r.BuildID, r.Build, r.Created = buildID.Int64, build.String, created.Time
	return r, err
}

// AddRelease writes the next release. One without a build has nothing to wait for: it is live.
func (c *Catalog) AddRelease(ctx context.Context, tx *db.Tx, a App, author string, build, config int64, summary string) (Release, error) {
	r := Release{UUID: NewUUID(), App: a.ID, Author: author, BuildID: build, ConfigID: config, Summary: summary, State: Pending}
	if build == 0 {
		r.State = Live
	}
	now := db.Now()
	r.Created = now.Time
	err := tx.QueryRow(ctx, `INSERT INTO apps_release (uuid, app_id, version, author, build_id, config_id, summary, state, reason, created)
		SELECT ?, ?, COALESCE(MAX(version), 0) + 1, ?, ?, ?, ?, ?, '', ? FROM apps_release WHERE app_id = ?
		RETURNING id, version`,
		r.UUID, a.ID, author, sql.NullInt64{Int64: build, Valid: build != 0}, config, summary, r.State, now, a.ID).Scan(&r.ID, &r.Version)
	if err != nil {
		return Release{}, fmt.Errorf("add release: %w", err)
	}
	_, err = tx.Exec(ctx, `UPDATE apps_app SET updated = ? WHERE id = ?`, now, a.ID)
	return r, wrap(err, "touch app %d", a.ID)
}

// Release finds a release by its number.
func (c *Catalog) Release(ctx context.Context, app int64, version int) (Release, error) {
	r, err := scanRelease(c.db.QueryRow(ctx, releaseQuery+`WHERE r.app_id = ? AND r.version = ?`, app, version))
	if db.NotFound(err) {
		return Release{}, fault.NotFound("No Release matches the given query.")
	}
	return r, wrap(err, "load release %d", version)
}

// Latest is the newest release that has not failed: what the next one builds on.
func (c *Catalog) Latest(ctx context.Context, q db.Querier, app int64) (Release, error) {
	r, err := scanRelease(q.QueryRow(ctx, releaseQuery+`WHERE r.app_id = ? AND r.state <> 'failed' ORDER BY r.version DESC LIMIT 1`, app))
	return r, wrap(err, "load latest release")
}

// Releases lists releases, newest first; limit 0 is all.
func (c *Catalog) Releases(ctx context.Context, app int64, limit int) ([]Release, error) {
	if limit == 0 {
		limit = 1 << 30
	}
	rows, err := c.db.Query(ctx, releaseQuery+`WHERE r.app_id = ? ORDER BY r.version DESC LIMIT ?`, app, limit)
	if err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	return collect(rows, scanRelease)
}

// Unsettled lists the pending releases, oldest first.
func (c *Catalog) Unsettled(ctx context.Context, app int64) ([]Release, error) {
	rows, err := c.db.Query(ctx, releaseQuery+`WHERE r.app_id = ? AND r.state = 'pending' ORDER BY r.version`, app)
	if err != nil {
		return nil, fmt.Errorf("list pending releases: %w", err)
	}
	return collect(rows, scanRelease)
}

// Settle says how a deploy ended.
func (c *Catalog) Settle(ctx context.Context, app int64, version int, state, reason string) error {
	_, err := c.db.Exec(ctx, `UPDATE apps_release SET state = ?, reason = ? WHERE app_id = ? AND version = ? AND state = 'pending'`,
		state, reason, app, version)
	return wrap(err, "settle release %d", version)
}

func collect[T any](rows *db.Rows, scan func(scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}
