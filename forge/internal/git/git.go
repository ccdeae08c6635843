// Package git runs the git program on bare repositories and reads what they hold.
//
// A Git is one configured program: it starts git with a scrubbed environment and a
// configuration file of its own, bounds how many processes run at once, and ends them
// with their context. A Repo is one repository on the disk. What a method takes as a rev
// or a path may come from a stranger: it never becomes an option, a pathspec with magic
// or a second line of input. Objects are named by SHA-1.
//
// What a method reports as done is on the disk: objects and refs are written with fsync
// (core.fsync), and so are the directories that name them. Repos are safe for concurrent
// use; whoever moves refs takes turns himself.
package git

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Config of a Git. Only Home must be set.
type Config struct {
	Home      string // a directory for git's configuration file; it is made
	Log       *slog.Logger
	Processes int           // git processes at once for each kind of work; 0: 8 per core
	Timeout   time.Duration // the longest that one of them may work; 0: an hour
	Idle      time.Duration // after which a reading process is ended; 0: a minute
}

// ErrNotFound is wrapped when a rev, an object or a path does not exist.
var ErrNotFound = errors.New("not found in the repository")

// A Git starts git.
type Git struct {
	cfg    Config
	binary string
	env    []string
	work   chan struct{} // one token a running process
	serve  chan struct{} // one token a client's fetch, which may take long
	pool   *pool
}

// settings is what every repository here has in common; a repository's own file is
// written by Init alone, so nobody else can configure a program to run.
const settings = `[core]
	fsync = objects,derived-metadata,reference
	logAllRefUpdates = always
	hooksPath = /dev/null
	attributesFile = /dev/null
	bigFileThreshold = 64m
[gc]
	auto = 0
	reflogExpire = never
[maintenance]
	auto = false
[transfer]
	fsckObjects = true
[uploadpack]
	allowFilter = true
[pack]
	threads = 2
	windowMemory = 128m
	writeReverseIndex = true
[safe]
	directory = *
[user]
	name = Sampan
	email = sampan@localhost
[init]
	defaultBranch = main
[advice]
	detachedHead = false
`

// New finds git and writes its configuration.
func New(ctx context.Context, cfg Config) (*Git, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Processes <= 0 {
		cfg.Processes = 8 * runtime.NumCPU()
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Hour
	}
	if cfg.Idle <= 0 {
		cfg.Idle = time.Minute
	}
	binary, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("the git program is missing; install it (Debian: apt install git): %w", err)
	}
	home, err := filepath.Abs(cfg.Home)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make git's home: %w", err)
	}
	file := filepath.Join(home, "gitconfig")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return nil, fmt.Errorf("write git's configuration: %w", err)
	}
	g := &Git{
		cfg: cfg, binary: binary, env: environment(home, file),
		work:  make(chan struct{}, cfg.Processes),
		serve: make(chan struct{}, 4*cfg.Processes),
	}
	g.pool = newPool(cfg.Processes)
	return g, g.checkVersion(ctx)
}

// environment is everything that a git process gets to know.
func environment(home, config string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + config,
		"GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_LITERAL_PATHSPECS=1",
		"GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0",
	}
}

// checkVersion wants 2.36: cat-file --batch-command and core.fsync came with it.
func (g *Git) checkVersion(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, g.binary, "version")
	cmd.Env = g.env
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ask git for its version: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return fmt.Errorf("git answered %q to `git version`", out)
	}
	parts := strings.SplitN(fields[2], ".", 3)
	major, _ := strconv.Atoi(parts[0])
	minor := 0
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1])
	}
	if major < 2 || major == 2 && minor < 36 {
		return fmt.Errorf("git %s is too old: 2.36 or newer is needed", fields[2])
	}
	return nil
}

// Run ends reading processes that nobody used for a while, until ctx ends.
func (g *Git) Run(ctx context.Context) error {
	t := time.NewTicker(g.cfg.Idle / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			g.pool.closeIdle(time.Now().Add(-g.cfg.Idle))
		}
	}
}

// Close ends the idle processes. Those in use end with their contexts.
func (g *Git) Close() error {
	g.pool.close()
	return nil
}

// A Repo is one bare repository.
type Repo struct {
	g   *Git
	dir string
	env []string // further environment: a quarantine
}

// At is the repository in a directory, which need not exist yet.
func (g *Git) At(dir string) Repo { return Repo{g: g, dir: dir} }

// With is the same repository seen with further environment, such as a quarantine's.
func (r Repo) With(env []string) Repo {
	r.env = append(r.env[:len(r.env):len(r.env)], env...)
	return r
}

// Dir is where the repository lies.
func (r Repo) Dir() string { return r.dir }
