package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// viewPrefix marks the snapshots that hold an image's layers for containers.
const viewPrefix = "sampan-view-"

// root is the label that keeps a snapshot which no image refers to.
const root = "containerd.io/gc.root"

// Mount lays a writable directory of the container id over the layers of chain, at
// dir/rootfs. The directory is the container's own and no snapshot: making one costs two
// synced transactions. The layers are held by one view for all containers of an image.
func (s *Store) Mount(ctx context.Context, id, chain, dir string) (rootfs string, err error) {
	rootfs = filepath.Join(dir, "rootfs")
	for _, part := range []string{rootfs, filepath.Join(dir, "upper"), filepath.Join(dir, "work")} {
		if err := os.Mkdir(part, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make the root directory of container %.12s: %w", id, err)
		}
	}
	var m mount.Mount
	if s.Snapshotter == Native {
		m, err = s.copied(ctx, id, chain)
	} else {
		m, err = s.overlaid(ctx, chain, dir)
	}
	if err != nil {
		return "", err
	}
	if err := m.Mount(rootfs); err != nil {
		return "", fmt.Errorf("mount the root directory of container %.12s: %w", id, err)
	}
	return rootfs, nil
}

// Show mounts the layers of chain at dir, read-only.
func (s *Store) Show(ctx context.Context, chain, dir string) error {
	lower, err := s.lower(ctx, chain)
	if err != nil {
		return err
	}
	m := mount.Mount{Type: "bind", Source: lower[0], Options: []string{"rbind", "ro"}}
	if len(lower) > 1 {
		m = mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"index=off", "lowerdir=" + strings.Join(lower, ":")}}
	}
	if err := m.Mount(dir); err != nil {
		return fmt.Errorf("mount an image: %w", err)
	}
	return nil
}

// Unmount takes a mount away; who still works in it goes on until he is done.
func Unmount(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", dir, err)
}

// Forget removes what Mount made for a container, but for its directory.
func (s *Store) Forget(ctx context.Context, id string) error {
	if s.Snapshotter != Native {
		return nil
	}
	err := s.Client.SnapshotService(Native).Remove(ctx, "sampan-"+id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the copy of container %.12s: %w", id, err)
	}
	return nil
}

func (s *Store) overlaid(ctx context.Context, chain, dir string) (mount.Mount, error) {
	lower, err := s.lower(ctx, chain)
	if err != nil {
		return mount.Mount{}, err
	}
	return mount.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "lowerdir=" + strings.Join(lower, ":"),
		"upperdir=" + filepath.Join(dir, "upper"), "workdir=" + filepath.Join(dir, "work"),
	}}, nil
}

// copied is what a machine without overlayfs does.
func (s *Store) copied(ctx context.Context, id, chain string) (mount.Mount, error) {
	service, key := s.Client.SnapshotService(Native), "sampan-"+id
	mounts, err := service.Mounts(ctx, key)
	if errdefs.IsNotFound(err) {
		mounts, err = service.Prepare(ctx, key, chain, keep())
	}
	if err != nil {
		return mount.Mount{}, fmt.Errorf("copy the image of container %.12s: %w", id, err)
	}
	return mounts[0], nil
}

// lower lists the directories of the layers of chain, the uppermost first.
func (s *Store) lower(ctx context.Context, chain string) ([]string, error) {
	if chain == "" {
		empty := filepath.Join(s.dir, "empty")
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return nil, fmt.Errorf("make an empty layer: %w", err)
		}
		return []string{empty}, nil
	}
	s.views.Lock()
	defer s.views.Unlock()
	if dirs, ok := s.lowers[chain]; ok {
		return dirs, nil
	}
	service, key := s.Client.SnapshotService(s.Snapshotter), viewPrefix+chain
	mounts, err := service.Mounts(ctx, key)
	if errdefs.IsNotFound(err) {
		mounts, err = service.View(ctx, key, chain, keep())
	}
	if err != nil {
		return nil, fmt.Errorf("open the layers %s: %w", chain, err)
	}
	dirs := directories(mounts)
	if len(dirs) == 0 {
		return nil, fmt.Errorf("open the layers %s: unknown mounts %v", chain, mounts)
	}
	s.lowers[chain] = dirs
	return dirs, nil
}

func keep() snapshots.Opt {
	return snapshots.WithLabels(map[string]string{root: time.Now().UTC().Format(time.RFC3339)})
}

// directories reads them from the mount of a view: one layer is a bind, more are an overlay.
func directories(mounts []mount.Mount) []string {
	if len(mounts) != 1 {
		return nil
	}
	if mounts[0].Type == "bind" {
		return []string{mounts[0].Source}
	}
	for _, option := range mounts[0].Options {
		if dirs, ok := strings.CutPrefix(option, "lowerdir="); ok {
			return strings.Split(dirs, ":")
		}
	}
	return nil
}

// Sweep drops the views of layers that are not in use, so that they go with their image.
func (s *Store) Sweep(ctx context.Context, used func(chain string) bool) error {
	s.views.Lock()
	defer s.views.Unlock()
	service := s.Client.SnapshotService(s.Snapshotter)
	var unused []string
	err := service.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		chain, ok := strings.CutPrefix(info.Name, viewPrefix)
		if ok && !used(chain) {
			unused = append(unused, chain)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the layers in use: %w", err)
	}
	for _, chain := range unused {
		if err := service.Remove(ctx, viewPrefix+chain); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("let the layers %s go: %w", chain, err)
		}
		delete(s.lowers, chain)
	}
	return nil
}
