package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sampan.dev/sampan/internal/fault"
)

// Dir is a Store in a directory: sha256/ab/abcd… holds the blobs, tmp/ those being put.
// One process has it open at a time.
type Dir struct{ root string }

var _ Store = (*Dir)(nil)

// OpenDir opens the directory, makes it the first time, and clears what a crash left.
func OpenDir(dir string) (*Dir, error) {
	d := &Dir{root: dir}
	if err := os.RemoveAll(d.tmp()); err != nil {
		return nil, fmt.Errorf("open blobs: %w", translate(err))
	}
	for _, sub := range []string{d.tmp(), d.blobs()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("open blobs: %w", translate(err))
		}
	}
	if err := errors.Join(syncDir(dir), syncDir(filepath.Dir(dir))); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	return d, nil
}

func (d *Dir) tmp() string   { return filepath.Join(d.root, "tmp") }
func (d *Dir) blobs() string { return filepath.Join(d.root, "sha256") }

func (d *Dir) path(sum string) string { return filepath.Join(d.blobs(), sum[:2], sum) }

// Put keeps all of r.
func (d *Dir) Put(ctx context.Context, r io.Reader) (Ref, error) {
	f, err := os.CreateTemp(d.tmp(), "put-")
	if err != nil {
		return Ref{}, fmt.Errorf("put a blob: %w", translate(err))
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum), readerContext{ctx, r})
	if err == nil {
		err = f.Chmod(0o400)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return Ref{}, fmt.Errorf("put a blob: %w", translate(err))
	}
	name := hex.EncodeToString(sum.Sum(nil))
	if err := d.publish(f.Name(), name); err != nil {
		return Ref{}, fmt.Errorf("put a blob: %w", translate(err))
	}
	return Ref{Digest: algorithm + name, Size: size}, nil
}

// publish replaces an equal blob, should there be one: that also mends a damaged one.
func (d *Dir) publish(tmp, sum string) error {
	file := d.path(sum)
	dir := filepath.Dir(file)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(d.blobs()); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return err
	}
	return syncDir(dir)
}

// Open answers the bytes, which are not checked: see Verify.
func (d *Dir) Open(_ context.Context, digest string) (io.ReadSeekCloser, int64, error) {
	sum, err := parse(digest)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(d.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, missing(digest)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open a blob: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open a blob: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// Has reports whether the blob is here.
func (d *Dir) Has(_ context.Context, digest string) (bool, error) {
	sum, err := parse(digest)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(d.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Delete takes the blob away; readers that have it open read on.
func (d *Dir) Delete(_ context.Context, digest string) error {
	sum, err := parse(digest)
	if err != nil {
		return err
	}
	err = os.Remove(d.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return missing(digest)
	}
	return err
}

// Each calls fn for every blob, in the order of digests, until fn fails.
func (d *Dir) Each(ctx context.Context, fn func(Ref) error) error {
	return filepath.WalkDir(d.blobs(), func(_ string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		digest := algorithm + entry.Name()
		if _, err := parse(digest); err != nil || entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		return fn(Ref{Digest: digest, Size: info.Size()})
	})
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func translate(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Full("the disk is full: %w", err).Try("make room and try again; nothing was kept of this upload")
	}
	return err
}

// readerContext ends a copy with its context.
type readerContext struct {
	ctx context.Context
	r   io.Reader
}

func (r readerContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
