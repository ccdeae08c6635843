package git

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// What a checkout may write: a small pack can stand for any number of large files.
const (
	maxFiles = 1_000_000
	maxBytes = 4 << 30
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
	if err := r.measure(ctx, commit); err != nil {
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

// measure refuses a commit that is too large to be written out.
func (r Repo) measure(ctx context.Context, commit string) error {
	var m measure
	err := r.run(ctx, nil, &m, "ls-tree", "-r", "--format=%(objectsize)", commit)
	if m.files > maxFiles || m.bytes > maxBytes {
		return fault.TooLarge("the files of %.7s are more than %d, or larger than %s in all", commit, maxFiles, size(maxBytes)).
			Try("take out of it what the build does not need")
	}
	if err != nil {
		return fmt.Errorf("measure %s: %w", commit, err)
	}
	return nil
}

// A measure adds up lines that are sizes of files. It stops when it has seen enough.
type measure struct {
	files, bytes, line int64
}

func (m *measure) Write(p []byte) (int, error) {
	for i, c := range p {
		switch {
		case c == '\n':
			m.files, m.bytes, m.line = m.files+1, m.bytes+m.line, 0
			if m.files > maxFiles || m.bytes > maxBytes {
				return i, io.ErrShortWrite
			}
		case c >= '0' && c <= '9': // a submodule's is "-"
			m.line = m.line*10 + int64(c-'0')
		}
	}
	return len(p), nil
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
