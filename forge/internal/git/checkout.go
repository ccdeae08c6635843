package git

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sampan.dev/sampan/forge/internal/wire"
)

// Checkout writes the files of a commit into a directory, which is made when missing, and
// tells when it was committed. There is no .git in it; submodules are empty directories.
func (r Repo) Checkout(ctx context.Context, commit, dir string) (committed time.Time, err error) {
	if !wire.ValidID(commit) {
		return committed, fmt.Errorf("check out %q: %w", commit, ErrNotFound)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return committed, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return committed, full(fmt.Errorf("check out: %w", err))
	}
	// An index of its own, outside of the repository: checkouts run at the same time.
	tmp, err := os.MkdirTemp("", "sampan-index-")
	if err != nil {
		return committed, full(fmt.Errorf("check out: %w", err))
	}
	defer os.RemoveAll(tmp)
	w := r.With([]string{"GIT_WORK_TREE=" + dir, "GIT_INDEX_FILE=" + filepath.Join(tmp, "index")})
	if _, err := w.output(ctx, nil, "-c", "core.bare=false", "read-tree", "--reset", "-u", commit); err != nil {
		return committed, fmt.Errorf("check out %s: %w", commit, err)
	}
	c, err := r.Commit(ctx, commit)
	return c.Committed, err
}

// maxPacks is how many packs may lie beside each other before they are joined.
const maxPacks = 24

// Maintain joins packs when there are many of them: each push leaves one. Packs are
// joined so that their sizes grow by factors of two, which rewrites large ones rarely;
// objects that no ref reaches stay.
func (r Repo) Maintain(ctx context.Context) error {
	packs, err := filepath.Glob(filepath.Join(r.dir, "objects", "pack", "*.pack"))
	if err != nil || len(packs) <= maxPacks {
		return err
	}
	_, err = r.output(ctx, nil, "repack", "--geometric=2", "-d", "-l", "-q")
	return err
}
