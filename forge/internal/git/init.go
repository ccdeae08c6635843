package git

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Init makes an empty bare repository and the directories above it. A repository that is
// already there is left as it is. It is written here rather than by `git init`, which
// would cost a process and copy template hooks.
func (g *Git) Init(dir, branch string) error {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	if !ValidBranch(branch) {
		return fmt.Errorf("init %s: %q is no branch", dir, branch)
	}
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return fmt.Errorf("init: %w", err)
		}
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
	if err := writeFile(filepath.Join(dir, "config"), config); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	// HEAD comes last: with it the directory is a repository.
	if err := writeFile(filepath.Join(dir, "HEAD"), "ref: refs/heads/"+branch+"\n"); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return errors.Join(syncDir(filepath.Join(dir, "objects")), syncDir(filepath.Join(dir, "refs")), syncDir(filepath.Dir(dir)))
}

// Remove deletes the repository. Its directory vanishes under its name first, so that a
// crash leaves no half of it behind that could be opened.
func (r Repo) Remove() error {
	r.g.pool.forget(r.dir)
	gone := r.dir + ".removed"
	if err := os.Rename(r.dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove repository: %w", err)
	}
	return os.RemoveAll(gone)
}
