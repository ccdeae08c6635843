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
	"time"

	"github.com/klauspost/compress/zstd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/kv"
)

// A backup is a tar archive, compressed with zstd (RFC 8878): first manifest.json, then
// records.db and intentions.db as db.Backup and kv.Snapshot write them, then the files of
// the data directory that nothing can make again: repositories, the apps' own remotes, what
// builds printed. Images and caches are not in it: apps are built again from their commits.
const (
	manifestName   = "manifest.json"
	recordsName    = "records.db"
	intentionsName = "intentions.db"
	filesPrefix    = "data/"
)

// kept are the files and directories of the data directory that a backup holds.
func kept() []string {
	return []string{"secret.key", "sampan.toml", "ssh", "mesh", "blob", "git", "apps/remotes", "apps/output"}
}

// A Manifest says what a backup is.
type Manifest struct {
	Format  int       `json:"format"`
	Version string    `json:"version"`
	Made    time.Time `json:"made"`
}

const backupFormat = 1

// Backup writes a consistent archive of everything to w, whether a server runs or not.
// Records are copied before repositories: a push that comes between is one the restored
// server finds in its repository and tells its parts of.
func Backup(ctx context.Context, cfg Config, w io.Writer) error {
	cfg.Fill()
	if _, err := os.Stat(filepath.Join(cfg.Data, "secret.key")); err != nil {
		return fault.NotFound("%s is not the data directory of a server", cfg.Data).Try("name it with --data")
	}
	work, err := os.MkdirTemp(filepath.Join(cfg.Data, "run"), "backup-")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer os.RemoveAll(work)
	records, intentions := filepath.Join(work, recordsName), filepath.Join(work, intentionsName)
	if err := copyIntentions(ctx, cfg, intentions); err != nil {
		return err
	}
	if err := copyRecords(ctx, cfg, records); err != nil {
		return err
	}
	compressed, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	manifest, err := json.Marshal(Manifest{Format: backupFormat, Version: cfg.Version, Made: time.Now().UTC()})
	if err != nil {
		return err
	}
	header := &tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(manifest)), ModTime: time.Now()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := archive.Write(manifest); err != nil {
		return err
	}
	for _, file := range []string{records, intentions} {
		if err := addFile(archive, file, filepath.Base(file)); err != nil {
			return err
		}
	}
	for _, name := range kept() {
		if err := addTree(ctx, archive, cfg.Data, name); err != nil {
			return fmt.Errorf("backup of %s: %w", name, err)
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

func databaseURL(cfg Config) string {
	if cfg.Database != "" {
		return cfg.Database
	}
	return filepath.Join(cfg.Data, "sampan.db")
}

func copyRecords(ctx context.Context, cfg Config, file string) error {
	d, err := db.Open(ctx, db.Config{URL: databaseURL(cfg), Log: cfg.Log})
	if err != nil {
		return err
	}
	return errors.Join(d.Backup(ctx, file), d.Close())
}

// copyIntentions asks the running server's etcd, or opens it when none runs.
func copyIntentions(ctx context.Context, cfg Config, file string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	lock, err := lockData(&cfg)
	if fault.Is(err, fault.KindConflict) {
		return copyRunning(ctx, cfg, out)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	k, err := kv.Open(ctx, kvConfig(cfg))
	if err != nil {
		return err
	}
	return errors.Join(k.Snapshot(ctx, out), k.Close())
}

func copyRunning(ctx context.Context, cfg Config, out io.Writer) error {
	running, err := RunningServer(cfg.Data)
	if err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{running.KV}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	from, err := client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("snapshot the running server's key-value store: %w", err)
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, from.Close())
}

// addTree adds a file or a directory of the data directory, if it is there. In a repository
// refs come before objects, so that every ref that is copied has its objects with it.
func addTree(ctx context.Context, archive *tar.Writer, data, name string) error {
	isObject := func(path string) bool { return strings.Contains(path, "/objects/") }
	isOther := func(path string) bool { return !isObject(path) }
	for _, pass := range []func(string) bool{isOther, isObject} {
		if err := addFiles(ctx, archive, data, name, pass); err != nil {
			return err
		}
	}
	return nil
}

// addFiles adds the regular files below name that pass; what goes away meanwhile, such as
// the temporary file of a push, does not matter.
func addFiles(ctx context.Context, archive *tar.Writer, data, name string, pass func(path string) bool) error {
	return filepath.WalkDir(filepath.Join(data, name), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, ".lock") || !pass(path) {
			return errors.Join(err, ctx.Err())
		}
		inData, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		if err := addFile(archive, path, filesPrefix+inData); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func addFile(archive *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.CopyN(archive, f, info.Size())
	return err
}
