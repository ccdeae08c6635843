package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"sampan.dev/sampan/internal/fault"
)

// Snapshot writes the whole store as it is at this moment, in the format of
// `etcdctl snapshot save`, checksum included.
func (k *KV) Snapshot(ctx context.Context, w io.Writer) error {
	from, err := k.client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("snapshot the key-value store: %w", err)
	}
	_, err = io.Copy(w, from)
	if err = errors.Join(err, from.Close()); err != nil {
		return fmt.Errorf("snapshot the key-value store: %w", err)
	}
	return nil
}

// Restore makes cfg.Dir from a snapshot of a store, before Open. The directory must not hold
// anything. Leases and revisions are as they were.
func Restore(cfg Config, file string) error {
	e, err := settings(cfg, newEnding())
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(e.Dir); err == nil && len(entries) > 0 {
		return fault.Conflict("%s holds a key-value store already", e.Dir).
			Try("restore into an empty data directory").On("data")
	}
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath:        file,
		Name:                e.Name,
		OutputDataDir:       e.Dir,
		PeerURLs:            []string{e.AdvertisePeerUrls[0].String()},
		InitialCluster:      e.InitialCluster,
		InitialClusterToken: e.InitialClusterToken,
	})
	if err != nil {
		return fault.Invalid("%s cannot be restored: %w", file, err).
			Try("use a file made by `sampan backup` or `etcdctl snapshot save`")
	}
	return nil
}
