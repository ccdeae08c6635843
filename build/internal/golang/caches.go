package golang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/internal/fault"
)

// caches are an app's own directories.
type caches struct{ build, modules, tmp string }

// usual are the packages of the standard library that are compiled for all apps at once: what
// a web app imports, directly or not. Others are compiled into the app's own cache.
var usual = [...]string{"net/http", "log/slog", "encoding/json", "html/template", "database/sql", "os/signal", "embed", "net/http/httputil"}

// caches opens the app's caches; a new one starts with the compiled standard library.
func (b *Builder) caches(ctx context.Context, j *job.Job, t toolchain, image string) (caches, error) {
	c := caches{
		build:   filepath.Join(j.Cache, "go", "build-"+t.release),
		modules: filepath.Join(j.Cache, "go", "modules"),
		tmp:     filepath.Join(j.Scratch, "tmp"),
	}
	for _, dir := range []string{c.modules, c.tmp} {
		if err := folder(dir, j.Box.Owner()); err != nil {
			return c, err
		}
	}
	if _, err := os.Stat(c.build); !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	std, err := b.standard(ctx, j, t, image)
	if err != nil {
		return c, err
	}
	begun := filepath.Join(j.Scratch, "begun")
	if err := begin(begun, std, j.Box.Owner()); err != nil {
		return c, fmt.Errorf("begin a build cache: %w", err)
	}
	return c, keep.Dir(begun, c.build)
}

// standard compiles the standard library of a release, once. No file of an app is in sight.
func (b *Builder) standard(ctx context.Context, j *job.Job, t toolchain, image string) (string, error) {
	done, err := b.turns.Take(ctx, "standard library of "+t.release)
	if err != nil {
		return "", err
	}
	defer done()
	dir := filepath.Join(b.dir, "std", t.release)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	j.Out.Step("Preparing the standard library of %s, which is kept for later builds", t.release)
	tmp, err := os.MkdirTemp(b.dir, "std-")
	if err != nil {
		return "", fmt.Errorf("prepare the standard library: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o711); err != nil { // builds on the host pass through as another user
		return "", fmt.Errorf("prepare the standard library: %w", err)
	}
	c := caches{build: filepath.Join(tmp, "build"), modules: filepath.Join(tmp, "modules"), tmp: filepath.Join(tmp, "tmp")}
	for _, d := range []string{c.build, c.modules, c.tmp} {
		if err := folder(d, j.Box.Owner()); err != nil {
			return "", err
		}
	}
	g := goCommand(j, t, image, c)
	g.Argv = append(append(g.Argv, "build", "-trimpath"), usual[:]...)
	g.Dir = j.Box.See(sandbox.Mount{Host: c.tmp, At: atTmp})
	lines := j.Out.Lines()
	g.Output = lines
	err = j.Box.Run(ctx, g)
	lines.Close()
	if f, ok := sandbox.Failed(err); ok {
		return "", fault.Invalid("the standard library of %s does not compile: %w", t.release, f).Try("name another release in go.mod")
	}
	if err != nil {
		return "", err
	}
	if err := seal(c.build, j.Box.Owner() >= 0); err != nil {
		return "", fmt.Errorf("keep the standard library: %w", err)
	}
	return dir, keep.Dir(c.build, dir)
}

// seal makes the files of a cache nobody's to write. In containers that is final, for they
// do not run as the files' owner.
func seal(dir string, own bool) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && own {
			err = os.Lchown(name, os.Getuid(), os.Getgid())
		}
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(name, 0o444)
		}
		return err
	})
}

// begin makes a build cache with the content of std. Outputs, the bulk, are links; the small
// index entries are copies, since go writes those again.
func begin(dir, std string, owner int) error {
	return filepath.WalkDir(std, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(std, name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		switch {
		case d.IsDir():
			return folder(to, owner)
		case strings.HasSuffix(rel, "-d"):
			if os.Link(name, to) == nil {
				return nil
			}
		}
		return copyFile(name, to, owner)
	})
}

func copyFile(from, to string, owner int) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil && owner >= 0 {
		err = out.Chown(owner, owner)
	}
	return errors.Join(err, out.Close())
}

// folder makes a directory that builds may write to.
func folder(dir string, owner int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a build directory: %w", err)
	}
	if owner < 0 {
		return nil
	}
	if err := os.Lchown(dir, owner, owner); err != nil {
		return fmt.Errorf("make a build directory: %w", err)
	}
	return nil
}
