package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
)

// The states of a build.
const (
	Waiting    = "waiting"
	Building   = "building"
	Built      = "built"
	Broken     = "broken"     // Reason says why
	Superseded = "superseded" // a newer push came first
)

// A Build is a commit, or an image, on its way to a release.
type Build struct {
	ID       int64
	UUID     string
	App      int64
	Author   string
	Cause    string // what asked for it; unique in the app
	SHA      string // empty for an image that was given
	Branch   string
	State    string
	Reason   string
	Result   Result
	Created  time.Time
	Finished time.Time
}

// A Result is what a build made, enough to run it.
type Result struct {
	runner.Artifact
	Builder    string              `json:"builder,omitempty"`
	Detected   string              `json:"detected,omitempty"`
	Processes  map[string][]string `json:"processes,omitempty"`
	Env        []string            `json:"env,omitempty"`
	Port       int                 `json:"port,omitempty"`
	Dockerfile bool                `json:"dockerfile,omitempty"`
}

const buildColumns = `id, uuid, app_id, author, cause, sha, branch, state, reason, result, created, finished`

func scanBuild(row scanner) (Build, error) {
	var b Build
	var created, finished db.Time
	var result string
	err := row.Scan(&b.ID, &b.UUID, &b.App, &b.Author, &b.Cause, &b.SHA, &b.Branch, &b.State, &b.Reason, &result, &created, &finished)
	if err != nil {
		return b, err
	}
	b.Created, b.Finished = created.Time, finished.Time
	if err := json.Unmarshal([]byte(result), &b.Result); err != nil {
		return b, fmt.Errorf("read result of build %s: %w", b.UUID, err)
	}
	return b, nil
}

// Ask records that a build is wanted. A cause that is known gives the build it made before
// and fresh false, so that a push which is told of twice is built once.
func (c *Catalog) Ask(ctx context.Context, b Build) (_ Build, fresh bool, err error) {
	err = c.db.Tx(ctx, func(tx *db.Tx) error {
		known, err := scanBuild(tx.QueryRow(ctx, `SELECT `+buildColumns+` FROM apps_build WHERE app_id = ? AND cause = ?`, b.App, b.Cause))
		if err == nil {
			b, fresh = known, false
			return nil
		}
		if !db.NotFound(err) {
			return err
		}
		now := db.Now()
		b.UUID, b.State, b.Created, fresh = NewUUID(), Waiting, now.Time, true
		return tx.QueryRow(ctx, `INSERT INTO apps_build (uuid, app_id, author, cause, sha, branch, state, reason, result, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, '', '{}', ?) RETURNING id`,
			b.UUID, b.App, b.Author, b.Cause, b.SHA, b.Branch, b.State, now).Scan(&b.ID)
	})
	return b, fresh, wrap(err, "record build of %s", b.SHA)
}

// SetBuild moves a build to another state.
func (c *Catalog) SetBuild(ctx context.Context, q db.Querier, id int64, state, reason string, result Result) error {
	body, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("encode result of build %d: %w", id, err)
	}
	var finished db.Time
	if state != Building {
		finished = db.Now()
	}
	_, err = q.Exec(ctx, `UPDATE apps_build SET state = ?, reason = ?, result = ?, finished = ? WHERE id = ?`,
		state, reason, string(body), finished, id)
	return wrap(err, "record state of build %d", id)
}

// Build finds a build by its UUID.
func (c *Catalog) Build(ctx context.Context, app int64, uuid string) (Build, error) {
	b, err := scanBuild(c.db.QueryRow(ctx, `SELECT `+buildColumns+` FROM apps_build WHERE app_id = ? AND uuid = ?`, app, uuid))
	if db.NotFound(err) {
		return Build{}, fault.NotFound("No Build matches the given query.")
	}
	return b, wrap(err, "load build %s", uuid)
}

// BuildByID finds a build by its row.
func (c *Catalog) BuildByID(ctx context.Context, id int64) (Build, error) {
	return c.BuildIn(ctx, c.db, id)
}

// BuildIn finds a build by its row, in the caller's transaction.
func (c *Catalog) BuildIn(ctx context.Context, q db.Querier, id int64) (Build, error) {
	b, err := scanBuild(q.QueryRow(ctx, `SELECT `+buildColumns+` FROM apps_build WHERE id = ?`, id))
	return b, wrap(err, "load build %d", id)
}

// Builds lists builds, newest first; limit 0 is all.
func (c *Catalog) Builds(ctx context.Context, app int64, limit int) ([]Build, error) {
	if limit == 0 {
		limit = 1 << 30
	}
	rows, err := c.db.Query(ctx, `SELECT `+buildColumns+` FROM apps_build WHERE app_id = ? ORDER BY id DESC LIMIT ?`, app, limit)
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	return collect(rows, scanBuild)
}

// Unfinished lists the builds of all apps that have no result yet, oldest first.
func (c *Catalog) Unfinished(ctx context.Context) ([]Build, error) {
	rows, err := c.db.Query(ctx, `SELECT `+buildColumns+` FROM apps_build WHERE state IN ('waiting', 'building') ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list unfinished builds: %w", err)
	}
	return collect(rows, scanBuild)
}
