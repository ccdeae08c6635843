// Package pack turns directories into what runs: layers of an image, or one directory.
//
// Layers are deterministic: names in order, owner 0, fixed modes and one time. A file in them
// belongs to root and can be read and run by all, so that an app cannot change itself.
package pack

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// App is where an app's files lie in its image.
const App = "/app"

// A Part is a directory's content at a place of an image.
type Part struct {
	Key  string // equal keys promise equal content; may be empty
	Dir  string // on the host
	At   string // absolute
	Skip string // a name at the top of Dir to leave out

	// Undated files are of 1970, whenever they were made: they do not change with a commit.
	Undated bool
}

// time is the time of a part's files.
func (p Part) time(at time.Time) time.Time {
	if p.Undated {
		return time.Unix(0, 0).UTC()
	}
	return at.UTC().Truncate(time.Second)
}

// Digest names a part's content.
func Digest(ctx context.Context, p Part) (string, error) {
	h := sha256.New()
	if err := Tar(ctx, h, p, time.Unix(0, 0)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Layers are the parts as layers, with all files of that time.
func Layers(ctx context.Context, parts []Part, at time.Time) []engine.Layer {
	var all []engine.Layer
	for _, p := range parts {
		key := p.Key
		if key != "" {
			key = fmt.Sprintf("%s at %s %d", key, p.At, p.time(at).Unix())
		}
		all = append(all, engine.Layer{Key: key, Open: func() (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() { w.CloseWithError(Tar(ctx, w, p, at)) }() // ends when r is read or closed
			return r, nil
		}})
	}
	return all
}

// Tar writes one part.
func Tar(ctx context.Context, w io.Writer, p Part, at time.Time) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	t := &packer{w: tar.NewWriter(buffered), at: p.time(at)}
	if err := t.parents(p.At); err != nil {
		return err
	}
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		if p.Skip != "" && name == p.Skip {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if name == "." {
			return nil
		}
		return t.add(root, name, strings.TrimPrefix(path.Join(p.At, name), "/"), d)
	})
	return errors.Join(err, t.w.Close(), buffered.Flush())
}

type packer struct {
	w  *tar.Writer
	at time.Time
}

// parents writes the directories that lead to a part.
func (t *packer) parents(at string) error {
	name := ""
	for _, piece := range strings.Split(strings.Trim(at, "/"), "/") {
		if piece == "" {
			continue
		}
		name += piece + "/"
		if err := t.w.WriteHeader(t.header(tar.TypeDir, name, 0o755)); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
	}
	return nil
}

func (t *packer) header(kind byte, name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: t.at, Format: tar.FormatPAX}
}

func (t *packer) add(root *os.Root, name, as string, d fs.DirEntry) error {
	var err error
	switch d.Type() {
	case fs.ModeDir:
		err = t.w.WriteHeader(t.header(tar.TypeDir, as+"/", dirMode(d)))
	case fs.ModeSymlink:
		h := t.header(tar.TypeSymlink, as, 0o777)
		if h.Linkname, err = root.Readlink(name); err == nil {
			err = t.w.WriteHeader(h)
		}
	case 0:
		err = t.file(root, name, as)
	default:
		return fault.Invalid("the build made %s, which is neither a file, a directory nor a link", name)
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}

// dirMode keeps the one exception: directories like /tmp.
func dirMode(d fs.DirEntry) int64 {
	if info, err := d.Info(); err == nil && info.Mode()&os.ModeSticky != 0 {
		return 0o1777
	}
	return 0o755
}

func (t *packer) file(root *os.Root, name, as string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := t.header(tar.TypeReg, as, 0o644)
	if info.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	h.Size = info.Size()
	if err := t.w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(t.w, f, h.Size)
	return err
}

// Place copies the parts below App into the new directory dir, for the host.
func Place(ctx context.Context, dir string, parts []Part) error {
	for _, p := range parts {
		below, ok := strings.CutPrefix(p.At+"/", App+"/")
		if !ok {
			continue // the host has its own certificates and time zones
		}
		to := filepath.Join(dir, below)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return fmt.Errorf("place: %w", err)
		}
		if err := place(ctx, to, p); err != nil {
			return err
		}
	}
	return nil
}

func place(ctx context.Context, to string, p Part) error {
	src, err := os.OpenRoot(p.Dir)
	if err != nil {
		return fmt.Errorf("place: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("place: %w", err)
	}
	defer dst.Close()
	return fs.WalkDir(src.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && d.IsDir() && p.Skip != "" && name == p.Skip {
			return fs.SkipDir
		}
		if err == nil && name != "." {
			err = placeOne(src, dst, name, d)
		}
		if err != nil {
			return fmt.Errorf("place %s: %w", name, err)
		}
		return nil
	})
}

func placeOne(src, dst *os.Root, name string, d fs.DirEntry) error {
	switch d.Type() {
	case fs.ModeDir:
		if err := dst.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case fs.ModeSymlink:
		target, err := src.Readlink(name)
		if err != nil {
			return err
		}
		return dst.Symlink(target, name)
	case 0:
		return copyFile(src, dst, name)
	}
	return fault.Invalid("the build made %s, which is neither a file, a directory nor a link", name)
}

func copyFile(src, dst *os.Root, name string) error {
	in, err := src.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm()|0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
