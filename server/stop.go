package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"sampan.dev/sampan/apps"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// StopApps ends the instances that a stopped server left running, and sampan-init. What
// should run is still on record: the next server starts it again.
func StopApps(ctx context.Context, cfg Config) (stopped int, err error) {
	cfg.Fill()
	if _, err := os.Stat(filepath.Join(cfg.Data, "secret.key")); err != nil {
		return 0, fault.NotFound("%s is not the data directory of a server", cfg.Data).Try("name it with --data")
	}
	lock, err := lockData(&cfg)
	if fault.Is(err, fault.KindConflict) {
		return 0, fault.Conflict("a server works on %s", cfg.Data).Try("stop it first")
	}
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	containers, err := stopContainers(ctx, cfg)
	if err != nil {
		return containers, err
	}
	processes, err := stopProcesses(ctx, cfg)
	return containers + processes, err
}

// stopContainers leaves nothing of the engine on the machine but its directory.
func stopContainers(ctx context.Context, cfg Config) (stopped int, err error) {
	dir := filepath.Join(cfg.Data, "engine")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	e, err := engine.Open(ctx, engine.Config{Dir: dir, Log: cfg.Log})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	all, err := e.Containers(ctx, nil)
	if err != nil {
		return 0, err
	}
	return len(all), e.Purge(ctx)
}

func stopProcesses(ctx context.Context, cfg Config) (stopped int, err error) {
	dir := filepath.Join(cfg.Data, "processes")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	r, end, err := apps.OpenProcesses(ctx, dir, cfg.Log)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	all, err := r.Instances(ctx)
	if err != nil {
		return 0, err
	}
	for _, i := range all {
		if err := r.Remove(ctx, i.ID); err != nil {
			return stopped, err
		}
		stopped++
	}
	return stopped, nil
}
