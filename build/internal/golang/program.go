package golang

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
)

// Program compiles a program of Sampan's own, one file that needs only the standard library,
// once. It returns the directory with the program and the image that it runs on.
func (b *Builder) Program(ctx context.Context, j *job.Job, name, source string) (dir, base string, err error) {
	t, err := b.toolchain(ctx, j, Own())
	if err != nil {
		return "", "", err
	}
	base, err = bare(ctx, j, t)
	if err != nil {
		return "", "", err
	}
	done, err := b.turns.Take(ctx, "program "+name)
	if err != nil {
		return "", "", err
	}
	defer done()
	sum := sha256.Sum256([]byte(t.release + source))
	dir = filepath.Join(b.dir, "program", name+"-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, base, err
	}
	return dir, base, b.program(ctx, *j, t, base, name, source, dir)
}

// program compiles with caches that no app uses.
func (b *Builder) program(ctx context.Context, j job.Job, t toolchain, base, name, source, dir string) error {
	j.Out.Step("Preparing %s, which is kept for later builds", name)
	j.App, j.Cache, j.Env = filepath.Join(j.Scratch, name), filepath.Join(b.dir, "own"), nil
	if err := folder(j.App, j.Box.Owner()); err != nil {
		return err
	}
	for file, text := range map[string]string{"main.go": source, "go.mod": "module " + name + "\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(j.App, file), []byte(text), 0o644); err != nil {
			return fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	c, err := b.caches(ctx, &j, t, base)
	if err != nil {
		return err
	}
	out := filepath.Join(j.Scratch, name+".out")
	if err := compile(ctx, &j, t, base, c, out, []string{"."}); err != nil {
		return err
	}
	return keep.Dir(filepath.Join(out, "bin"), dir)
}
