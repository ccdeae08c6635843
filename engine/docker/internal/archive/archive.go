// Package archive moves files between tar streams and a container's file system.
//
// A container may change its files while they are read, and may be hostile: every path is
// looked up below its root directory by the kernel (openat2(2), RESOLVE_IN_ROOT), so that
// symbolic links lead where they would inside, and what follows works on the directory that
// was found and not on its name.
//
// Tar streams are those of POSIX.1-2001 (pax), with extended attributes as SCHILY.xattr.
package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
)

// A Tree is a file system below a directory of the host.
type Tree struct{ Root string }

// open finds a directory. The caller closes it.
func (t Tree) open(dir string) (*os.Root, error) {
	found, err := pathrs.OpenInRoot(t.Root, dir)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", found.Fd()))
}

// A File is what is at a path.
type File struct {
	os.FileInfo
	Path   string // absolute, with a slash or a dot at its end where the one asked for had them
	Target string // of a symbolic link, where it leads in the tree
}

// Name is the last part of the path.
func (f File) Name() string { return path.Base(f.Path) }

// Stat looks at a path. A symbolic link at its end is not followed, unless the path ends with a
// slash or a dot.
func (t Tree) Stat(name string) (File, error) {
	f := File{Path: clean(name)}
	dir, base := path.Split(f.Path)
	if base == "" {
		base = "."
	}
	parent, err := t.open(dir)
	if err != nil {
		return f, err
	}
	defer parent.Close()
	if f.FileInfo, err = parent.Lstat(base); err != nil {
		return f, err
	}
	if f.Mode()&os.ModeSymlink == 0 {
		return f, nil
	}
	full, err := securejoin.SecureJoin(t.Root, f.Path)
	if err != nil {
		return f, err
	}
	f.Target = path.Join("/", strings.TrimPrefix(full, t.Root))
	return f, nil
}

// clean makes a path absolute, and keeps a slash or a dot at its end, which say that a directory
// is meant.
func clean(name string) string {
	c := path.Clean("/" + name)
	switch {
	case c == "/":
	case strings.HasSuffix(name, "/."):
		c += "/."
	case strings.HasSuffix(name, "/"):
		c += "/"
	}
	return c
}

// maxRead is more than a file that Read is meant for has.
const maxRead = 4 << 20

// Read is the text of a small file; empty when it is not there.
func (t Tree) Read(name string) (string, error) {
	found, err := pathrs.OpenInRoot(t.Root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer found.Close()
	if info, err := found.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(fmt.Errorf("%s is not a file", name), err)
	}
	f, err := pathrs.Reopen(found, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRead))
	return string(text), err
}
