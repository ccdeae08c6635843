// Package build makes images from source: a commit's files in, an image out, progress on the way.
//
// What a tree is is found in this order: a Dockerfile, a Go module, a Node package, a static
// site; a Procfile names the processes of the last three. One line says what was found and
// why. A build is deterministic: the same commit and settings give the same digest.
//
// Builds run in containers with limits, and never see the files of the server or the caches
// of another Request.Cache. Without an engine they are limited processes of the host, share
// its files, and their result is a directory; Dockerfiles are refused then. Everything that
// is kept is below Config.Dir and may be deleted between builds. A Builder is safe for
// concurrent use; builds of one cache wait for each other.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sampan.dev/sampan/build/internal/dockerfile"
	"sampan.dev/sampan/build/internal/golang"
	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/machine"
	"sampan.dev/sampan/build/internal/node"
	"sampan.dev/sampan/build/internal/rootfs"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/build/internal/static"
	"sampan.dev/sampan/build/internal/turn"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// Config says where a Builder keeps its caches and where it builds. Only Dir is needed.
type Config struct {
	Engine *engine.Engine // nil: builds are processes of the host
	Dir    string
	Log    *slog.Logger

	// Env is where the settings for fetching come from: GOPROXY, GOSUMDB, HTTPS_PROXY,
	// SSL_CERT_FILE, npm_config_registry and their like. Nil: this process's environment.
	Env []string
}

// Limits of one build; zero takes the default.
type Limits struct {
	Memory int64         // bytes; default 2 GiB
	CPUs   float64       // default: all
	Pids   int64         // default 1024
	Time   time.Duration // default 15 minutes
	Output int64         // bytes of progress; default 4 MiB, then the rest is dropped
	Source int64         // bytes of the tree; default 1 GiB
}

// A Request names what to build. Tree is only read.
type Request struct {
	Cache  string // scope of the caches: no build with another one reads them
	Tree   string // a directory with the commit's files
	Commit string // its name; equal commits are equal trees
	Time   time.Time
	Env    map[string]string // visible to build scripts, not kept in the image
	Name   string            // of the image; without a tag each commit gets one
	Output io.Writer
	Limits Limits
}

// A Result is what can be run.
type Result struct {
	Image      string              // name@digest
	Dir        string              // of a build on the host: the files, where Processes start
	Builder    string              // "Dockerfile", "Go", "Node" or "static"
	Detected   string              // why
	Processes  map[string][]string // an empty command is the image's own
	Env        []string            // what the processes need besides the app's settings
	Port       int                 // that the image says it listens on; zero: the one in PORT
	Dockerfile bool
	Cached     bool // nothing had to be done
}

// A Builder is open from Open to Close.
type Builder struct {
	cfg       Config
	log       *slog.Logger
	box       sandbox.Box
	machine   *machine.Settings
	roots     *rootfs.Store // nil on the host
	languages []job.Language
	docker    *dockerfile.Builder
	daemon    *dockerfile.Daemon
	turns     turn.Turns
}

// Open makes the directories and removes what interrupted builds left. Nothing is fetched
// before the first build.
func Open(ctx context.Context, cfg Config) (*Builder, error) {
	b := &Builder{cfg: cfg, log: cfg.Log, box: sandbox.Host{}}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	env := cfg.Env
	if env == nil {
		env = os.Environ()
	}
	b.machine = machine.From(env)
	if err := b.folders(); err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	if cfg.Engine != nil {
		box := sandbox.On(cfg.Engine)
		if err := box.Clean(ctx); err != nil {
			return nil, fmt.Errorf("open the builder: %w", err)
		}
		b.box, b.roots = box, rootfs.In(b.shared("roots"), cfg.Engine, b.machine)
	}
	compiler := golang.In(b.shared("go"))
	nodes := node.In(b.shared("node"))
	b.docker = dockerfile.On(cfg.Engine, b.shared("buildkit"), compiler, nodes)
	b.daemon = b.docker.Daemon(b.shared("docker"))
	if cfg.Engine != nil {
		if err := b.docker.Clean(ctx); err != nil {
			b.log.Error("build steps of before could not be ended", "err", err)
		}
	}
	b.languages = []job.Language{b.docker, compiler, nodes, static.With(compiler)}
	return b, nil
}

// What lies below Dir: what all builds share, what each scope has, what a running build uses.
func (b *Builder) shared(part string) string { return filepath.Join(b.cfg.Dir, "shared", part) }
func (b *Builder) scratch() string           { return filepath.Join(b.cfg.Dir, "scratch") }
func (b *Builder) scope(cache string) string {
	sum := sha256.Sum256([]byte(cache))
	return filepath.Join(b.cfg.Dir, "apps", hex.EncodeToString(sum[:10]))
}

func (b *Builder) folders() error {
	dir, err := filepath.Abs(b.cfg.Dir)
	if err != nil {
		return err
	}
	b.cfg.Dir = dir
	if err := source.Remove(b.scratch()); err != nil {
		return err
	}
	for _, dir := range []string{b.scratch(), b.shared("go"), b.shared("roots"), b.shared("node"), filepath.Join(b.cfg.Dir, "apps")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// Other users of the machine are not to read the source; commands on the host pass through.
	mode := os.FileMode(0o700)
	if b.cfg.Engine == nil {
		mode = 0o711
	}
	return os.Chmod(b.cfg.Dir, mode)
}

// Run waits for the end of ctx; builds run in their callers' goroutines.
func (b *Builder) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Forget deletes the caches and results of a scope. Images that containers use stay until
// those are gone.
func (b *Builder) Forget(ctx context.Context, cache string) error {
	done, err := b.turns.Take(ctx, cache)
	if err != nil {
		return err
	}
	defer done()
	for _, r := range b.recorded(cache) {
		name, _, _ := strings.Cut(r.Image, "@")
		if name == "" || b.cfg.Engine == nil {
			continue
		}
		if _, err := b.cfg.Engine.RemoveImage(ctx, name, false); err != nil && !fault.Is(err, fault.KindNotFound) && !fault.Is(err, fault.KindConflict) {
			return fmt.Errorf("forget %s: %w", name, err)
		}
	}
	if err := source.Remove(b.scope(cache)); err != nil {
		return fmt.Errorf("forget a build cache: %w", err)
	}
	return nil
}

// Close releases what builds left open.
func (b *Builder) Close() error {
	b.daemon.Close()
	return b.docker.Close()
}
