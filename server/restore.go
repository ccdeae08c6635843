package server

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/kv"
)

// Restore fills an empty data directory from what Backup wrote. A restore that fails leaves
// nothing behind.
func Restore(ctx context.Context, cfg Config, r io.Reader) (m Manifest, err error) {
	cfg.Fill()
	if entries, err := os.ReadDir(cfg.Data); err == nil && len(entries) > 0 {
		return m, fault.Conflict("%s is not empty", cfg.Data).Try("restore into a new directory with --data")
	}
	if err := os.MkdirAll(cfg.Data, 0o711); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, clear(cfg.Data))
		}
	}()
	if m, err = unpack(ctx, cfg.Data, r); err != nil {
		return m, err
	}
	records, intentions := filepath.Join(cfg.Data, recordsName), filepath.Join(cfg.Data, intentionsName)
	if err := db.Restore(ctx, db.Config{URL: databaseURL(cfg), Log: cfg.Log}, records); err != nil {
		return m, err
	}
	if err := kv.Restore(kvConfig(cfg), intentions); err != nil {
		return m, err
	}
	if err := errors.Join(os.Remove(records), os.Remove(intentions)); err != nil {
		return m, err
	}
	return m, syncDirectories(cfg.Data)
}

func clear(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// unpack writes the files of the archive below data, and nothing outside of it.
func unpack(ctx context.Context, data string, r io.Reader) (m Manifest, err error) {
	notBackup := func(why any) error {
		return fault.Invalid("this is not a whole backup: %v", why).Try("use a file that `sampan backup` wrote")
	}
	compressed, err := zstd.NewReader(r)
	if err != nil {
		return m, notBackup(err)
	}
	defer compressed.Close()
	archive := tar.NewReader(compressed)
	first, err := archive.Next()
	if err != nil || first.Name != manifestName {
		return m, notBackup("it has no manifest")
	}
	if err := json.NewDecoder(archive).Decode(&m); err != nil {
		return m, notBackup(err)
	}
	if m.Format != backupFormat {
		return m, fault.Invalid("the backup has format %d; this program reads %d", m.Format, backupFormat).Try("use version %s of sampan", m.Version)
	}
	root, err := os.OpenRoot(data)
	if err != nil {
		return m, err
	}
	defer root.Close()
	found := map[string]bool{}
	for ctx.Err() == nil {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return m, notBackup(err)
		}
		name := strings.TrimPrefix(header.Name, filesPrefix)
		found[name] = true
		err = unpackFile(root, name, header, archive)
		var broken *brokenArchive
		if errors.As(err, &broken) {
			return m, notBackup(broken.err)
		}
		if err != nil {
			return m, fmt.Errorf("restore %s: %w", name, err)
		}
	}
	for _, needed := range []string{recordsName, intentionsName, "secret.key"} {
		if !found[needed] {
			return m, notBackup(needed + " is missing")
		}
	}
	return m, ctx.Err()
}

func unpackFile(root *os.Root, name string, header *tar.Header, r io.Reader) error {
	if header.Typeflag != tar.TypeReg || !fs.ValidPath(name) {
		return fault.Invalid("the backup holds %q, which is not a file of a server", header.Name)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(header.Mode).Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, archiveReader{r})
	return errors.Join(err, f.Sync(), f.Close())
}

// A brokenArchive is an error of reading, to be told from those of writing.
type brokenArchive struct{ err error }

func (b *brokenArchive) Error() string { return b.err.Error() }

type archiveReader struct{ io.Reader }

func (a archiveReader) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &brokenArchive{err}
	}
	return n, err
}

// syncDirectories makes the names of all files below dir survive a loss of power.
func syncDirectories(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
