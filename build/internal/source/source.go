// Package source reads a checked-out tree that a stranger wrote.
//
// Names are resolved inside the tree, so a symbolic link that leads out of it is an error and
// not a way to the server's files. Copy refuses what no commit can hold (devices, pipes,
// sockets) and more bytes or files than a build may bring.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sampan.dev/sampan/internal/fault"
)

// A Tree is a directory with a commit's files.
type Tree struct{ root *os.Root }

// Open opens the tree in dir.
func Open(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	return &Tree{root}, nil
}

func (t *Tree) Close() error { return t.root.Close() }

// Dir is the tree's path on the host.
func (t *Tree) Dir() string { return t.root.Name() }

// FS shows the tree; names that lead out of it do not exist.
func (t *Tree) FS() fs.FS { return t.root.FS() }

// File reports whether name is a regular file in the tree.
func (t *Tree) File(name string) bool {
	info, err := t.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// Folder reports whether name is a directory in the tree.
func (t *Tree) Folder(name string) bool {
	info, err := t.root.Stat(name)
	return err == nil && info.IsDir()
}

// settings is the most that a file which we read ourselves may hold.
const settings = 16 << 20

// Read reads a file that says something about the build, such as go.mod.
func (t *Tree) Read(name string) ([]byte, error) {
	if !t.File(name) {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the source: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, settings+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > settings {
		return nil, fault.TooLarge("%s is larger than %d MiB", name, settings>>20)
	}
	return text, nil
}

// A Limit bounds Copy.
type Limit struct {
	Bytes int64
	Files int
}

// Copy copies the tree, without .git, into the new directory to and gives the files to owner,
// a user's and group's number; negative leaves them ours. Links are copied as they are: who
// follows them is locked in, or is the host's process that may read them anyway.
func (t *Tree) Copy(ctx context.Context, to string, owner int, most Limit) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("copy the source: %w", err)
	}
	dst, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("copy the source: %w", err)
	}
	defer dst.Close()
	c := copier{src: t.root, dst: dst, owner: owner, left: most}
	return fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("copy the source: %w", err)
		}
		if name == ".git" {
			return skip(d)
		}
		return c.copy(name, d)
	})
}

// skip leaves out .git, which is a file in a linked work tree.
func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

type copier struct {
	src, dst *os.Root
	owner    int
	left     Limit
}

func (c *copier) copy(name string, d fs.DirEntry) error {
	if c.left.Files--; c.left.Files < 0 {
		return fault.TooLarge("the source has too many files").Try("leave generated files out of the repository")
	}
	var err error
	switch d.Type() {
	case fs.ModeDir:
		if name != "." {
			err = c.dst.Mkdir(name, 0o755)
		}
	case fs.ModeSymlink:
		var target string
		if target, err = c.src.Readlink(name); err == nil {
			err = c.dst.Symlink(target, name)
		}
	case 0:
		err = c.file(name)
	default:
		return fault.Invalid("%s is neither a file, a directory nor a link", name).Try("remove it from the repository")
	}
	if err == nil && c.owner >= 0 {
		err = c.dst.Lchown(name, c.owner, c.owner)
	}
	if err != nil && !isFault(err) {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	return err
}

func (c *copier) file(name string) error {
	in, err := c.src.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if c.left.Bytes -= info.Size(); c.left.Bytes < 0 || !info.Mode().IsRegular() {
		return fault.TooLarge("the source is larger than a build may bring").Try("leave large files out of the repository")
	}
	mode := os.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	out, err := c.dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, info.Size()))
	return errors.Join(err, out.Close())
}

func isFault(err error) bool { _, ok := fault.Of(err); return ok }

// Remove deletes a directory that a build wrote, also where it took its own rights away.
func Remove(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
