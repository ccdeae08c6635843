package kv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reserved is far more than the intentions of one machine need.
const reserved = 32 << 20

// reserve takes room on the disk for the file of keys. etcd ends the process when it cannot
// write that file, and it leaves holes in it: without a reserve a disk that others have filled
// would end the server. The log has a reserve of its own.
func reserve(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "member", "snap", "db"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, reserved)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a file system that knows no reserves
	}
	if err != nil {
		return fmt.Errorf("reserve %d MB: %w", reserved>>20, err)
	}
	return nil
}
