package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"sampan.dev/sampan/internal/fault"
)

// inspect looks at the data before etcd does. etcd waits for ever when another process holds
// its database, and dies of a signal when the file is shorter than its own first page says.
func inspect(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unreadable(dir, err)
	}
	for _, e := range entries {
		if e.Name() != "member" || !e.IsDir() {
			return unreadable(dir, fmt.Errorf("it holds %q, which is not etcd's", e.Name()))
		}
	}
	return inspectDB(dir, filepath.Join(dir, "member", "snap", "db"))
}

// inspectDB opens the database for reading: that fails at once when another process writes
// to it, or when its first pages are damaged.
func inspectDB(dir, file string) (err error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() == 0) {
		return nil
	}
	if err != nil {
		return unreadable(dir, err)
	}
	db, err := bbolt.Open(file, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return fault.Conflict("another program uses the key-value store in %s", dir).
			Try("stop the other Sampan or give this one its own data directory").On("data")
	}
	if err != nil {
		return unreadable(dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if info.Size() < tx.Size() {
			return unreadable(dir, fmt.Errorf("its file is cut off: %d bytes of %d", info.Size(), tx.Size()))
		}
		return nil
	})
}
