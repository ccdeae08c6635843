// Package repo keeps the repositories: who owns them, what they are called, who may see
// them, and where they lie.
//
// A repository has a number for life; its directory is named by it, so that renaming
// moves no files. Every method checks what who may do; what one may not see is NotFound.
// A Service is safe for concurrent use.
package repo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// Kind is what permissions call a repository.
const Kind = "repo"

// A Repo is one repository.
type Repo struct {
	ID          int64
	OwnerID     int64
	Owner       string
	Name        string
	Description string
	Visibility  identity.Visibility
	Default     string // the default branch
	Created     time.Time
	Pushed      time.Time // zero: never
}

// Path is how people call it.
func (r Repo) Path() string { return r.Owner + "/" + r.Name }

// Object is what permissions are asked about.
func (r Repo) Object() identity.Object {
	return identity.Object{Kind: Kind, ID: r.ID, OwnerID: r.OwnerID, Visibility: r.Visibility}
}

// Config of a Service.
type Config struct {
	DB       *db.DB
	Identity *identity.Service
	Git      *git.Git
	Dir      string // the repositories lie below it
	Log      *slog.Logger
}

// A Service keeps repositories.
type Service struct {
	cfg Config
}

//go:embed migrations
var migrations embed.FS

// Open migrates and finishes interrupted deletions.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := cfg.DB.Migrate(ctx, "forge_repo", files); err != nil {
		return nil, err
	}
	cfg.Identity.BeforeDelete("repositories", owned)
	s := &Service{cfg: cfg}
	return s, s.removeDoomed(ctx)
}

// owned counts the repositories of an owner, who cannot be deleted while there are any.
func owned(ctx context.Context, q db.Querier, owner int64) (n int, err error) {
	err = q.QueryRow(ctx, `SELECT COUNT(*) FROM forge_repo WHERE owner = ?`, owner).Scan(&n)
	return n, err
}

// Git is the git repository of a number. Directories are spread over 256 others, since
// some file systems become slow with many names in one place.
func (s *Service) Git(id int64) git.Repo {
	return s.cfg.Git.At(filepath.Join(s.cfg.Dir, fmt.Sprintf("%02x", id&0xff), strconv.FormatInt(id, 10)+".git"))
}

// A New is what a new repository shall be.
type New struct {
	Owner       string // empty: who asks
	Name        string
	Description string
	Visibility  identity.Visibility
	Default     string // empty: main
}

// Create makes an empty repository.
func (s *Service) Create(ctx context.Context, who identity.Who, n New) (Repo, error) {
	if who.ID == 0 {
		return Repo{}, fault.SignIn("sign in to create a repository")
	}
	r, err := s.prepare(ctx, who, n)
	if err != nil {
		return Repo{}, err
	}
	var made *git.Repo
	err = s.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		const insert = `INSERT INTO forge_repo (owner, name, name_key, description, visibility, default_branch, created)
			VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id`
		err := tx.QueryRow(ctx, insert, r.OwnerID, r.Name, strings.ToLower(r.Name), r.Description,
			int(r.Visibility), r.Default, db.At(r.Created)).Scan(&r.ID)
		if db.Unique(err) {
			return fault.Conflict("%s has a repository called %s already", r.Owner, r.Name).Try("choose another name").On("name")
		}
		if err != nil {
			return fmt.Errorf("create repository: %w", err)
		}
		if err := s.cfg.Identity.Audit(ctx, tx, who, "repo.create", r.Path(), ""); err != nil {
			return err
		}
		g := s.Git(r.ID)
		made = &g
		return s.initEmpty(g, r.Default)
	})
	if err != nil && made != nil {
		err = errors.Join(err, made.Remove())
	}
	return r, err
}

// initEmpty makes the directory. One that is there belongs to no row, for the number is
// new: it was left by a database that was put back to an older state, so it is kept aside.
func (s *Service) initEmpty(g git.Repo, branch string) error {
	if _, err := os.Stat(g.Dir()); err == nil {
		aside := g.Dir() + ".found-" + time.Now().UTC().Format("20060102T150405")
		if err := os.Rename(g.Dir(), aside); err != nil {
			return fmt.Errorf("create repository: %w", err)
		}
		s.cfg.Log.Warn("a directory without a repository was set aside", "dir", aside)
	}
	return s.cfg.Git.Init(g.Dir(), branch)
}

// prepare checks a New and who wants it.
func (s *Service) prepare(ctx context.Context, who identity.Who, n New) (Repo, error) {
	if n.Owner == "" {
		n.Owner = who.Name
	}
	if n.Default == "" {
		n.Default = "main"
	}
	r := Repo{Name: n.Name, Description: strings.TrimSpace(n.Description), Visibility: n.Visibility, Default: n.Default, Created: db.Now().Time}
	if err := r.check(); err != nil {
		return Repo{}, err
	}
	owner, err := s.cfg.Identity.Owner(ctx, n.Owner)
	if err != nil {
		return Repo{}, err
	}
	r.Owner, r.OwnerID = owner.Name, owner.ID
	// A repository that does not exist yet has the number 0: whoever may manage the
	// owner's things may create one.
	if err := s.cfg.Identity.Check(ctx, who, identity.Manage, identity.Object{Kind: Kind, OwnerID: owner.ID}); err != nil {
		return Repo{}, fault.Forbidden("you may not create repositories for %s", n.Owner).On("owner")
	}
	return r, nil
}

// check says what is wrong with the fields that people choose.
func (r Repo) check() error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	switch {
	case len(r.Description) > maxDescription:
		return fault.Invalid("the description is longer than %d characters", maxDescription).On("description")
	case !git.ValidBranch(r.Default):
		return fault.Invalid("%.100q cannot be the name of a branch", r.Default).On("default")
	case r.Visibility != identity.Private && r.Visibility != identity.Internal && r.Visibility != identity.Public:
		return fault.Invalid("a repository is private, internal or public").On("visibility")
	}
	return nil
}
