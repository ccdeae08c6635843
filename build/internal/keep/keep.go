// Package keep makes directories appear whole or not at all, also when the power fails.
package keep

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir moves the finished directory tmp to dir, on the same file system, after its content has
// reached the disk. Who loses a race for dir keeps what is there.
func Dir(tmp, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("keep %s: %w", dir, err)
	}
	if err := flush(tmp); err != nil {
		return fmt.Errorf("keep %s: %w", dir, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("keep %s: %w", dir, err)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("keep %s: %w", dir, err)
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return fmt.Errorf("keep %s: %w", dir, err)
	}
	return nil
}
