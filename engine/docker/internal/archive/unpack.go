package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/moby/go-archive/compression"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// Options of Unpack.
type Options struct {
	KeepType bool    // refuse to put a file in the place of a directory, or the other way round
	Owner    *[2]int // user and group of all files; nil: as the stream says
}

// Unpack puts the files of a tar stream, which may be compressed, into a directory.
func (t Tree) Unpack(r io.Reader, dir string, o Options) error {
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return fault.Invalid("the archive cannot be read: %w", err)
	}
	defer plain.Close()
	u := unpacker{tree: t, dir: clean(dir), options: o}
	defer u.close()
	in := tar.NewReader(plain)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fault.Invalid("the archive cannot be read: %w", err)
		}
		if err := u.put(h, in); err != nil {
			return err
		}
	}
	if err := u.dirTimes(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, plain) // so that the client need not wonder who hung up
	return err
}

// An unpacker keeps the directory of the last file open: the next one is there, too, mostly.
type unpacker struct {
	tree    Tree
	dir     string
	options Options

	at     string
	parent *os.Root
	dirs   []dirTime
}

// dirTime is set when nothing more is put into the directory.
type dirTime struct {
	path string
	time time.Time
}

func (u *unpacker) close() {
	if u.parent != nil {
		u.parent.Close()
	}
}

// enter opens the directory of a file, and makes it if it is missing.
func (u *unpacker) enter(dir string) error {
	if u.parent != nil && u.at == dir {
		return nil
	}
	d, err := u.tree.open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.enter(path.Dir(dir)); err != nil {
			return err
		}
		if err := u.parent.Mkdir(path.Base(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		d, err = u.tree.open(dir)
	}
	if err != nil {
		return err
	}
	u.close()
	u.at, u.parent = dir, d
	return nil
}

func (u *unpacker) put(h *tar.Header, content io.Reader) error {
	full := path.Join(u.dir, path.Clean("/"+h.Name))
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	}
	if full == path.Clean(u.dir) {
		return nil // the directory itself is there
	}
	dir, base := path.Dir(full), path.Base(full)
	err := u.enter(dir)
	if err == nil {
		err = u.makeRoom(h, base)
	}
	if err == nil {
		err = u.create(h, base, content)
	}
	if err == nil {
		err = u.dress(h, base)
	}
	if err != nil {
		return explain(full, err)
	}
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, dirTime{full, h.ModTime})
	}
	return nil
}

// explain tells the user's mistakes from those of the machine.
func explain(name string, err error) error {
	switch {
	case isFault(err):
		return err
	case errors.Is(err, syscall.EROFS):
		return fault.Forbidden("%s is on a file system that is read-only", name)
	case errors.Is(err, syscall.ENOSPC):
		return fault.Full("there is no room for %s", name)
	}
	return fmt.Errorf("write %s: %w", name, err)
}

func isFault(err error) bool {
	_, ok := fault.Of(err)
	return ok
}

// makeRoom takes away what is in the way.
func (u *unpacker) makeRoom(h *tar.Header, base string) error {
	info, err := u.parent.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir := h.Typeflag == tar.TypeDir
	switch {
	case u.options.KeepType && info.IsDir() && !isDir:
		return fault.Invalid("cannot overwrite directory %q with non-directory %q", h.Name, u.dir)
	case u.options.KeepType && !info.IsDir() && isDir:
		return fault.Invalid("cannot overwrite non-directory %q with directory %q", h.Name, u.dir)
	case info.IsDir() && isDir:
		return nil
	}
	return u.parent.RemoveAll(base)
}

func (u *unpacker) create(h *tar.Header, base string, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.parent.Mkdir(base, 0o755); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeReg:
		return u.write(h, base, content)
	case tar.TypeSymlink:
		return u.parent.Symlink(h.Linkname, base)
	case tar.TypeLink:
		return u.link(h, base)
	case tar.TypeFifo:
		return u.node(base, unix.S_IFIFO, 0)
	case tar.TypeChar:
		return u.node(base, unix.S_IFCHR, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	case tar.TypeBlock:
		return u.node(base, unix.S_IFBLK, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	return fault.Invalid("the archive has a file of the unknown type %q: %s", h.Typeflag, h.Name)
}

func (u *unpacker) write(h *tar.Header, base string, content io.Reader) error {
	f, err := u.parent.OpenFile(base, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil && u.options.Owner == nil {
		err = f.Chown(h.Uid, h.Gid) // it takes capabilities away: those come after it
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok && err == nil {
			err = setXattr(f, name, value)
		}
	}
	return errors.Join(err, f.Close())
}

// setXattr leaves out what the file system does not have.
func setXattr(f *os.File, name, value string) error {
	err := unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// link gives a file of the same archive a further name.
func (u *unpacker) link(h *tar.Header, base string) error {
	old := path.Join(u.dir, path.Clean("/"+h.Linkname))
	from, err := u.tree.open(path.Dir(old))
	if err != nil {
		return err
	}
	defer from.Close()
	return between(from, u.parent, func(from, to int) error {
		return unix.Linkat(from, path.Base(old), to, base, 0)
	})
}

func (u *unpacker) node(base string, kind uint32, dev uint64) error {
	return between(u.parent, u.parent, func(_, to int) error { return unix.Mknodat(to, base, kind|0o600, int(dev)) })
}

// between calls do with the descriptors of two directories.
func between(a, b *os.Root, do func(a, b int) error) error {
	from, err := a.Open(".")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := b.Open(".")
	if err != nil {
		return err
	}
	defer to.Close()
	return do(int(from.Fd()), int(to.Fd()))
}

// dress sets owner, mode and time. A further name has those of the first.
func (u *unpacker) dress(h *tar.Header, base string) error {
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	uid, gid := h.Uid, h.Gid
	if u.options.Owner != nil {
		uid, gid = u.options.Owner[0], u.options.Owner[1]
	}
	// A file that write made has its owner already, and perhaps capabilities.
	if h.Typeflag != tar.TypeReg || u.options.Owner != nil {
		if err := u.parent.Lchown(base, uid, gid); err != nil {
			return err
		}
	}
	return between(u.parent, u.parent, func(dir, _ int) error {
		if h.Typeflag != tar.TypeSymlink {
			if err := chmod(dir, base, h); err != nil {
				return err
			}
		}
		times := []unix.Timespec{timespec(h.ModTime), timespec(h.ModTime)}
		return unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// chmod does not follow a link that was put in the file's place.
func chmod(dir int, base string, h *tar.Header) error {
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), uint32(h.Mode&0o7777))
}

func timespec(t time.Time) unix.Timespec {
	if t.Before(time.Unix(0, 0)) {
		t = time.Unix(0, 0)
	}
	return unix.NsecToTimespec(t.UnixNano())
}

// dirTimes come last, for putting files into a directory changes its time.
func (u *unpacker) dirTimes() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		if err := u.enter(path.Dir(d.path)); err != nil {
			return explain(d.path, err)
		}
		err := between(u.parent, u.parent, func(dir, _ int) error {
			times := []unix.Timespec{timespec(d.time), timespec(d.time)}
			return unix.UtimesNanoAt(dir, path.Base(d.path), times, unix.AT_SYMLINK_NOFOLLOW)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain(d.path, err)
		}
	}
	return nil
}
