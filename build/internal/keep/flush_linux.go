package keep

import (
	"os"

	"golang.org/x/sys/unix"
)

// flush writes out the file system of dir: one call instead of one for each of thousands of files.
func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
