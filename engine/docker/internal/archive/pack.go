package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pack writes what is at a path, with all that is below it. The names in the stream begin with
// the last part of the path. What vanishes meanwhile is left out.
func (t Tree) Pack(w io.Writer, name string) error {
	f, err := t.Stat(name)
	if err != nil {
		return err
	}
	dir, base := path.Split(f.Path)
	if base == "" || f.IsDir() {
		dir, base = f.Path, "."
	}
	parent, err := t.open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	p := packer{out: tar.NewWriter(w), links: map[inode]string{}}
	if err := p.add(parent, base, f.Name()); err != nil {
		return err
	}
	return p.out.Close()
}

// A packer remembers files with several names.
type packer struct {
	out   *tar.Writer
	links map[inode]string
}

type inode struct{ dev, ino uint64 }

// add writes one file, and what is below it.
func (p *packer) add(dir *os.Root, base, name string) error {
	info, err := dir.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if info.Mode()&os.ModeSocket != 0 {
		return nil // nobody could answer at it
	}
	h, err := p.header(dir, base, name, info)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case info.IsDir():
		return p.dir(dir, base, name, h)
	case h.Typeflag == tar.TypeReg:
		return p.file(dir, base, h)
	}
	return p.out.WriteHeader(h)
}

func (p *packer) header(dir *os.Root, base, name string, info fs.FileInfo) (*tar.Header, error) {
	link := ""
	if info.Mode()&os.ModeSymlink != 0 {
		var err error
		if link, err = dir.Readlink(base); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	h.Format, h.Name, h.Uname, h.Gname = tar.FormatPAX, name, "", ""
	h.AccessTime, h.ChangeTime = h.ModTime, h.ModTime
	if info.IsDir() {
		h.Name = strings.TrimSuffix(name, "/") + "/"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && !info.IsDir() && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, seen := p.links[id]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			p.links[id] = name
		}
	}
	return h, nil
}

func (p *packer) dir(parent *os.Root, base, name string, h *tar.Header) error {
	d, err := parent.OpenRoot(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer d.Close()
	names, err := namesIn(d)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	for _, n := range names {
		if err := p.add(d, n, h.Name+n); err != nil {
			return err
		}
	}
	return nil
}

func namesIn(d *os.Root) ([]string, error) {
	f, err := d.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// file writes one with its bytes. Its header is made of what was opened, which may be another
// file by now.
func (p *packer) file(dir *os.Root, base string, h *tar.Header) error {
	f, err := dir.OpenFile(base, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", h.Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("%s changed while it was read", h.Name), err)
	}
	h.Size = info.Size()
	if value, err := xattr(f, capability); err == nil {
		h.PAXRecords = map[string]string{xattrPrefix + capability: string(value)}
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.out, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		_, err = io.CopyN(p.out, zeros{}, h.Size-n) // it was cut off meanwhile
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", h.Name, err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

const (
	xattrPrefix = "SCHILY.xattr."
	capability  = "security.capability" // of programs; the others are the container's own affair
)

func xattr(f *os.File, name string) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := unix.Fgetxattr(int(f.Fd()), name, buf)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(buf[:n]), nil
}
