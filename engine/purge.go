package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"sampan.dev/sampan/internal/fault"
)

// Purge removes all containers, networks and everything else that this engine has on the
// machine outside of its directory; images and named volumes stay. After it only Close is
// of use.
func (e *Engine) Purge(ctx context.Context) error {
	var errs []error
	for _, r := range e.all() {
		if err := e.Remove(ctx, r.ID, RemoveOptions{Force: true, Volumes: true}); err != nil && !fault.Is(err, fault.KindNotFound) {
			errs = append(errs, err)
		}
	}
	e.work.Wait()
	errs = append(errs, e.networks.Purge())
	e.starting.Lock()
	e.purged = true
	sup := e.client
	e.starting.Unlock()
	if sup != nil {
		errs = append(errs, sup.Shutdown(ctx), e.ungroup())
	}
	if err := os.RemoveAll(e.path("run")); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ungroup removes the empty control groups, in one hierarchy or in all of version 1.
func (e *Engine) ungroup() error {
	var errs []error
	for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(base + e.cgroup())
		errs = append(errs, err)
		for _, group := range found {
			if err := os.Remove(group); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
