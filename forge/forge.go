// Package forge hosts code: repositories with git over SSH and HTTP, and pages to read
// them.
//
// A repository belongs to a person or an organisation and lies on the disk as a bare git
// repository. What may be done with it is decided by package identity, in the method that
// acts; what one may not see does not exist, on every door. A push is acknowledged only
// when it survives kill -9 and power loss; then it happens to others as Pushed, once for
// each push, also after a crash. Addresses of one part (/hello.git) belong to others: an
// app's remote is what Remotes finds.
//
// It speaks git's smart protocols (gitprotocol-http, -pack, -v2), SSH (RFC 4251 to 4254)
// and, under /api/v1, as much of the Gitea API as the command line needs.
package forge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/forge/internal/account"
	"sampan.dev/sampan/forge/internal/browse"
	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/markup"
	"sampan.dev/sampan/forge/internal/push"
	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/forge/internal/sshd"
	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/secret"
	"sampan.dev/sampan/internal/ui"
)

// Main is what a program that opens a Forge calls first: it is started again, under another
// name, to render files, and then Main does not return.
func Main() { markup.Main() }

// Config of a Forge.
type Config struct {
	Dir      string // the data directory: git/ and ssh/ are made in it
	SSHAddr  string // where the SSH door opens; empty: nowhere
	HTTPURL  string // what people reach the pages by, without a slash at the end
	SSHURL   string // the same for SSH: ssh://git@host:port; empty: told from the address
	DB       *db.DB
	Identity *identity.Service
	Events   *event.Bus
	UI       *ui.UI
	Secret   *secret.Box
	Log      *slog.Logger
	Limits   Limits
}

// Limits of what people may ask for; zero means the default.
type Limits struct {
	Push      int64         // bytes of one push; 1 GiB
	Processes int           // git processes at once; 8 per core
	Time      time.Duration // of one git operation; an hour
}

const defaultPush = 1 << 30

// A Push is an accepted push; Pushed is its event.
type (
	Push   = push.Push
	Update = push.Update
)

// Pushed happens once for each push that moved a ref of a repository.
var Pushed = push.Pushed

// Repositories, as package forge/internal/repo keeps them.
type (
	Repo    = repo.Repo
	NewRepo = repo.New
	Filter  = repo.Filter
)

// A Remote is a bare repository that another part keeps, reached by a path of one part.
// Its Gate decides about each push before refs move: what it writes to out is shown to
// the client, and with quarantineEnv git sees the objects that were pushed.
type Remote struct {
	Dir  string
	Gate func(ctx context.Context, p Push, quarantineEnv []string, out io.Writer) error
}

// Streams connect an SSH command to its client.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Terminal *Terminal // nil: the client has none
}

// Terminal and Size tell about the client's terminal.
type (
	Terminal = sshd.Terminal
	Size     = sshd.Size
)

// A Console runs SSH commands that are not git's. handled says that the command was its.
type Console func(ctx context.Context, who identity.Who, args []string, s Streams) (exit int, handled bool, err error)

// A FindRemote looks up the remote of an app for someone who wants to fetch, or push.
type FindRemote func(ctx context.Context, who identity.Who, name string, write bool) (Remote, error)

// A Forge is safe for concurrent use once it runs.
type Forge struct {
	cfg      Config
	git      *git.Git
	repos    *repo.Service
	pushes   *push.Service
	ssh      *sshd.Server // nil: no SSH door
	account  *account.Pages
	browser  *browse.Browser
	remotes  FindRemote
	consoles []Console
}

// Open migrates, settles pushes that a crash interrupted and binds the SSH address.
func Open(ctx context.Context, cfg Config) (_ *Forge, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Limits.Push == 0 {
		cfg.Limits.Push = defaultPush
	}
	f := &Forge{cfg: cfg}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	f.git, err = git.New(ctx, git.Config{Home: filepath.Join(dir, "git"), Log: cfg.Log, Processes: cfg.Limits.Processes, Timeout: cfg.Limits.Time})
	if err != nil {
		return nil, err
	}
	f.repos, err = repo.Open(ctx, repo.Config{DB: cfg.DB, Identity: cfg.Identity, Git: f.git, Dir: filepath.Join(dir, "git"), Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	f.pushes, err = push.Open(ctx, push.Config{
		DB: cfg.DB, Events: cfg.Events, Log: cfg.Log, Limit: cfg.Limits.Push, Dir: f.repos.Git,
		Moved: f.moved,
	})
	if err != nil {
		return nil, err
	}
	if cfg.SSHAddr != "" {
		if err := f.openSSH(ctx, filepath.Join(dir, "ssh", "host_ed25519")); err != nil {
			return nil, err
		}
	}
	return f, f.addPages()
}

// moved runs in the transaction that announces a push.
func (f *Forge) moved(ctx context.Context, tx *db.Tx, p Push) error {
	var created []string
	for _, u := range p.Updates {
		if branch, ok := strings.CutPrefix(u.Ref, "refs/heads/"); ok && u.Old == wire.ZeroID {
			created = append(created, branch)
		}
	}
	return f.repos.Moved(ctx, tx, p.Repo, p.At, created)
}

// Run opens the doors until ctx ends.
func (f *Forge) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.git.Run(ctx) })
	g.Go(func() error { return f.pushes.Run(ctx) })
	if f.ssh != nil {
		g.Go(func() error { return f.ssh.Run(ctx) })
	}
	return g.Wait()
}

// Close releases everything. What was in flight ends.
func (f *Forge) Close() error {
	var errs []error
	if f.ssh != nil {
		errs = append(errs, f.ssh.Close())
	}
	if f.pushes != nil {
		errs = append(errs, f.pushes.Close())
	}
	if f.git != nil {
		errs = append(errs, f.git.Close())
	}
	return errors.Join(errs...)
}

// AfterPush adds a function to be called when a push moved refs, while the client waits:
// what it writes to out is shown to the client, who may leave at any time. The Pushed
// event comes as well; whatever must happen belongs there. Call it before Run.
func (f *Forge) AfterPush(fn func(ctx context.Context, p Push, out io.Writer) error) {
	f.pushes.After(fn)
}

// Remotes sets who finds repositories with a path of one part. Call it before Run.
func (f *Forge) Remotes(find FindRemote) { f.remotes = find }

// Consoles adds someone who runs SSH commands. Call it before Run.
func (f *Forge) Consoles(c Console) { f.consoles = append(f.consoles, c) }

// Init makes an empty bare repository for a Remote; one that is there is left alone.
func (f *Forge) Init(dir string) error { return f.git.Init(dir, "main") }

// CreateRepo makes an empty repository.
func (f *Forge) CreateRepo(ctx context.Context, who identity.Who, n NewRepo) (Repo, error) {
	return f.repos.Create(ctx, who, n)
}

// Repo finds the repository at a path, owner/name.
func (f *Forge) Repo(ctx context.Context, who identity.Who, path string) (Repo, error) {
	owner, name, err := repo.ParsePath(path)
	if err != nil {
		return Repo{}, err
	}
	return f.repos.Find(ctx, who, identity.View, owner, name)
}

// RepoByID finds the repository with a number.
func (f *Forge) RepoByID(ctx context.Context, who identity.Who, id int64) (Repo, error) {
	return f.repos.ByID(ctx, who, identity.View, id)
}

// May says why who may not act on the repository with a number; nil when they may.
func (f *Forge) May(ctx context.Context, who identity.Who, act identity.Action, id int64) error {
	_, err := f.repos.ByID(ctx, who, act, id)
	return err
}

// Repos lists repositories that who may see, the last pushed first.
func (f *Forge) Repos(ctx context.Context, who identity.Who, filter Filter) ([]Repo, error) {
	return f.repos.List(ctx, who, filter)
}

// DeleteRepo removes a repository and everything in it.
func (f *Forge) DeleteRepo(ctx context.Context, who identity.Who, id int64) error {
	return f.repos.Delete(ctx, who, id)
}

// Resolve finds the commit that a branch, a tag, a ref or part of an object name means.
func (f *Forge) Resolve(ctx context.Context, repo int64, rev string) (string, error) {
	return f.repos.Git(repo).Resolve(ctx, rev)
}

// Checkout writes the files of a commit into dir, without a .git, and tells when it was committed.
func (f *Forge) Checkout(ctx context.Context, repo int64, commit, dir string) (time.Time, error) {
	return f.repos.Git(repo).Checkout(ctx, commit, dir)
}

// SSHAddr is where the SSH door is open; nil when there is none.
func (f *Forge) SSHAddr() net.Addr {
	if f.ssh == nil {
		return nil
	}
	return f.ssh.Addr()
}

// cloneURLs tells how to reach a path with git.
func (f *Forge) cloneURLs(path string) (ssh, http string) {
	http = strings.TrimSuffix(f.cfg.HTTPURL, "/") + "/" + path + ".git"
	if f.ssh == nil {
		return "", http
	}
	base := f.cfg.SSHURL
	if base == "" {
		host := "localhost"
		if u, err := url.Parse(f.cfg.HTTPURL); err == nil && u.Hostname() != "" {
			host = u.Hostname()
		}
		_, port, _ := net.SplitHostPort(f.ssh.Addr().String())
		base = "ssh://git@" + net.JoinHostPort(host, port)
	}
	return strings.TrimSuffix(base, "/") + "/" + path + ".git", http
}
