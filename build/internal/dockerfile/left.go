package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Clean ends the steps of builds that a killed server left running.
func (b *Builder) Clean(ctx context.Context) error {
	// BuildKit mounts what it reads and writes itself here, for as long as it uses it.
	mounts, err := filepath.Glob(filepath.Join(b.dir, "containerd-*", "cachemounts", "*"))
	if err != nil {
		return err
	}
	for _, dir := range mounts {
		_ = unix.Unmount(dir, unix.MNT_DETACH) // most are only directories
		_ = os.Remove(dir)                     // which stays when it is not empty
	}
	left, err := filepath.Glob(filepath.Join(b.dir, executorDir, "*", "config.json"))
	if err != nil || len(left) == 0 {
		return err
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("end left build steps: %w", err)
	}
	var failed []error
	for _, config := range left {
		bundle := filepath.Dir(config)
		// It knows only containers that began; those are the ones to end.
		_ = exec.CommandContext(ctx, runc, "delete", "--force", filepath.Base(bundle)).Run()
		// What is below a mount is not ours to delete: the directory goes only without one.
		err := unix.Unmount(filepath.Join(bundle, "rootfs"), unix.MNT_DETACH)
		if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			err = os.RemoveAll(bundle)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("remove the left build step %s: %w", filepath.Base(bundle), err))
		}
	}
	return errors.Join(failed...)
}
