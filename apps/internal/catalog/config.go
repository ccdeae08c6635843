package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sampan.dev/sampan/internal/db"
)

// A Config is what the releases that name it run with.
type Config struct {
	ID       int64
	UUID     string
	Author   string
	Settings Settings
	Created  time.Time
}

// Settings have the shape that the controller API shows.
type Settings struct {
	Values      map[string]string          `json:"values"`
	Memory      map[string]string          `json:"memory"`
	CPU         map[string]string          `json:"cpu"`
	Tags        map[string]string          `json:"tags"`
	Registry    map[string]string          `json:"registry"`
	Healthcheck map[string]json.RawMessage `json:"healthcheck"`
}

// filled has no nil maps: clients of the controller API expect objects.
func (s Settings) filled() Settings {
	for _, m := range []*map[string]string{&s.Values, &s.Memory, &s.CPU, &s.Tags, &s.Registry} {
		if *m == nil {
			*m = map[string]string{}
		}
	}
	if s.Healthcheck == nil {
		s.Healthcheck = map[string]json.RawMessage{}
	}
	return s
}

// The seal is bound to its app, so that a row cannot be moved to another.
func sealContext(app int64) string { return fmt.Sprintf("config of app %d", app) }

func (c *Catalog) insertConfig(ctx context.Context, tx *db.Tx, a App, author string, s Settings) (Config, error) {
	body, err := json.Marshal(s.filled())
	if err != nil {
		return Config{}, fmt.Errorf("encode configuration: %w", err)
	}
	now := db.Now()
	cfg := Config{UUID: NewUUID(), Author: author, Settings: s.filled(), Created: now.Time}
	err = tx.QueryRow(ctx, `INSERT INTO apps_config (uuid, app_id, author, body, created) VALUES (?, ?, ?, ?, ?) RETURNING id`,
		cfg.UUID, a.ID, author, c.box.Seal(body, sealContext(a.ID)), now).Scan(&cfg.ID)
	return cfg, wrap(err, "write configuration")
}

// Config reads a configuration by its row.
func (c *Catalog) Config(ctx context.Context, q db.Querier, app, id int64) (Config, error) {
	var cfg Config
	var body []byte
	var created db.Time
	err := q.QueryRow(ctx, `SELECT id, uuid, author, body, created FROM apps_config WHERE app_id = ? AND id = ?`, app, id).
		Scan(&cfg.ID, &cfg.UUID, &cfg.Author, &body, &created)
	if err != nil {
		return Config{}, fmt.Errorf("load configuration %d: %w", id, err)
	}
	plain, err := c.box.Unseal(body, sealContext(app))
	if err != nil {
		return Config{}, fmt.Errorf("unseal configuration %d: %w", id, err)
	}
	if err := json.Unmarshal(plain, &cfg.Settings); err != nil {
		return Config{}, fmt.Errorf("read configuration %d: %w", id, err)
	}
	cfg.Settings, cfg.Created = cfg.Settings.filled(), created.Time
	return cfg, nil
}

// Change writes a new configuration and the release that carries it, in one transaction.
// change gets what holds now and returns what shall, and the release's summary.
func (c *Catalog) Change(ctx context.Context, a App, author string, change func(Settings) (Settings, string, error)) (Config, Release, error) {
	var cfg Config
	var rel Release
	err := c.db.Tx(ctx, func(tx *db.Tx) error {
		latest, err := c.Latest(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		now, err := c.Config(ctx, tx, a.ID, latest.ConfigID)
		if err != nil {
			return err
		}
		next, summary, err := change(now.Settings)
		if err != nil {
			return err
		}
		if cfg, err = c.insertConfig(ctx, tx, a, author, next); err != nil {
			return err
		}
		if rel, err = c.AddRelease(ctx, tx, a, author, latest.BuildID, cfg.ID, summary); err != nil {
			return err
		}
		if err := c.Note(ctx, tx, a.ID, Info, fmt.Sprintf("config %s-%s updated", a.Name, cfg.UUID[:7])); err != nil {
			return err
		}
		return c.Note(ctx, tx, a.ID, Info, summary)
	})
	return cfg, rel, err
}
