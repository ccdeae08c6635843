package kv

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// forget lets go of the memory into which etcd has read its whole file (MAP_POPULATE): 16 MB,
// since bbolt makes files that long, nearly all of it pages that hold nothing. What is needed
// is read again when it is.
func forget(dir string) error {
	file, err := filepath.Abs(filepath.Join(dir, "member", "snap", "db"))
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uintptr
		if !strings.HasSuffix(lines.Text(), " "+file) {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); err != nil {
			return fmt.Errorf("read /proc/self/maps: %w", err)
		}
		// This advice loses no page, whatever is at the address by now.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_PAGEOUT); errno != 0 {
			return errno
		}
	}
	return lines.Err()
}
