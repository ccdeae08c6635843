package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/internal/fault"
)

// installed is a node_modules directory; key names its content.
type installed struct{ dir, key string }

// modules installs what the app needs to run, and runs its build script with what that needs.
func (b *Builder) modules(ctx context.Context, j *job.Job, p Package, t tools) (installed, error) {
	lock, err := lockfile(j.Source, p)
	if err != nil {
		return installed{}, err
	}
	script := p.Scripts["build"] != ""
	if lock == "" && !script {
		j.Out.Detail("no dependencies")
		return installed{}, nil
	}
	var run installed
	if lock != "" {
		j.Out.Step("Installing dependencies")
		if run, err = b.install(ctx, j, p, t, lock, "--omit=dev"); err != nil {
			return installed{}, err
		}
	}
	if !script {
		return run, nil
	}
	all := run
	if lock != "" {
		j.Out.Step("Installing dependencies of the build")
		if all, err = b.install(ctx, j, p, t, lock, "--include=dev"); err != nil {
			return installed{}, err
		}
	}
	j.Out.Step("Running npm run build")
	return run, b.script(ctx, j, t, all)
}

// lockfile is the name of the lockfile; empty when there is nothing to install.
func lockfile(t *source.Tree, p Package) (string, error) {
	for _, name := range []string{"npm-shrinkwrap.json", "package-lock.json"} {
		if t.File(name) {
			return name, nil
		}
	}
	for _, other := range []string{"yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"} {
		if t.File(other) {
			return "", fault.Invalid("%s is of another package manager; npm is used here", other).
				Try("commit a package-lock.json, or use a Dockerfile")
		}
	}
	if p.needs() {
		return "", fault.Invalid("package-lock.json is missing, so it is not known what to install").
			Try("run npm install and commit package-lock.json")
	}
	return "", nil
}

// own reports whether npm ci would run or link files of the app itself, so that the lockfile
// alone does not decide what it gives.
func own(p Package, lock []byte) bool {
	for _, name := range []string{"preinstall", "install", "postinstall", "prepublish", "prepare"} {
		if p.Scripts[name] != "" {
			return true
		}
	}
	text := string(lock)
	return strings.Contains(text, `"link": true`) || strings.Contains(text, `"file:`)
}

// install runs npm ci once for each lockfile.
func (b *Builder) install(ctx context.Context, j *job.Job, p Package, t tools, lock, which string) (installed, error) {
	text, err := j.Source.Read(lock)
	if err != nil {
		return installed{}, err
	}
	manifest, err := j.Source.Read("package.json")
	if err != nil {
		return installed{}, err
	}
	dir := filepath.Join(j.Scratch, "install"+which)
	if own(p, text) {
		err = j.Source.Copy(ctx, dir, j.Box.Owner(), source.Limit{Bytes: 1 << 40, Files: 1 << 30}) // it fitted before
		if err != nil {
			return installed{}, err
		}
		return b.ci(ctx, j, t, dir, filepath.Join(j.Scratch, "modules"+which), which)
	}
	npmrc, err := j.Source.Read(".npmrc")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return installed{}, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%v", t.version, which, text, npmrc, []any{p.Dependencies, p.DevDependencies, p.OptionalDependencies}))
	kept := filepath.Join(j.Cache, "node", "modules", hex.EncodeToString(sum[:12]))
	if key, err := os.ReadFile(filepath.Join(kept, "key")); err == nil {
		j.Out.Detail("%s did not change: what it named before is taken", lock)
		return installed{filepath.Join(kept, "node_modules"), string(key)}, nil
	}
	if err := folders(j.Box.Owner(), dir); err != nil {
		return installed{}, err
	}
	for name, text := range map[string][]byte{lock: text, "package.json": manifest, ".npmrc": npmrc} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return installed{}, fmt.Errorf("prepare npm ci: %w", err)
		}
	}
	return b.ci(ctx, j, t, dir, kept, which)
}

// ci runs npm ci in dir and moves what it installed to kept.
func (b *Builder) ci(ctx context.Context, j *job.Job, t tools, dir, kept, which string) (installed, error) {
	cache, err := cacheDir(j)
	if err != nil {
		return installed{}, err
	}
	c := t.command(j, sandbox.Mount{Host: dir, At: pack.App}, cache, "ci", which)
	if err := run(ctx, j, c, "npm ci"); err != nil {
		return installed{}, err
	}
	made := filepath.Join(dir, "made")
	modules := filepath.Join(made, "node_modules")
	if err := os.Mkdir(made, 0o755); err != nil {
		return installed{}, fmt.Errorf("keep what npm installed: %w", err)
	}
	err = os.Rename(filepath.Join(dir, "node_modules"), modules)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Mkdir(modules, 0o755)
	}
	if err != nil {
		return installed{}, fmt.Errorf("keep what npm installed: %w", err)
	}
	key, err := pack.Digest(ctx, pack.Part{Dir: modules, At: path.Join(pack.App, "node_modules"), Undated: true})
	if err != nil {
		return installed{}, err
	}
	if err := os.WriteFile(filepath.Join(made, "key"), []byte(key), 0o644); err != nil {
		return installed{}, fmt.Errorf("keep what npm installed: %w", err)
	}
	if err := source.Remove(kept); err != nil {
		return installed{}, fmt.Errorf("keep what npm installed: %w", err)
	}
	return installed{filepath.Join(kept, "node_modules"), key}, keep.Dir(made, kept)
}

// script runs the build script where the app lies, with its modules beside it.
func (b *Builder) script(ctx context.Context, j *job.Job, t tools, all installed) error {
	cache, err := cacheDir(j)
	if err != nil {
		return err
	}
	c := t.command(j, sandbox.Mount{Host: j.App, At: pack.App}, cache, "run", "build")
	c.Env = append([]string{"NODE_ENV=production"}, c.Env...)
	switch {
	case all.dir == "":
	case j.Box.Contained():
		c.Mounts = append(c.Mounts, sandbox.Mount{Host: all.dir, At: path.Join(pack.App, "node_modules")})
	default:
		if err := os.Symlink(all.dir, filepath.Join(j.App, "node_modules")); err != nil {
			return fmt.Errorf("lay the modules beside the app: %w", err)
		}
	}
	return run(ctx, j, c, "npm run build")
}

// folders makes directories that builds may write to.
func folders(owner int, dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a build directory: %w", err)
		}
		if owner < 0 {
			continue
		}
		if err := os.Lchown(dir, owner, owner); err != nil {
			return fmt.Errorf("make a build directory: %w", err)
		}
	}
	return nil
}
