package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Unpacked files are not synced while somebody waits: that would also write out everything
// else that is under way on the disk. Instead a synced mark says which layers are at risk,
// the disk is synced afterwards, and a mark that a power loss left makes its layers be
// unpacked again from their blobs, which were synced.
type marks struct {
	dir  string
	boot string // tells one life of the machine from the next

	mu   sync.Mutex
	busy map[string]int // marks whose layers are being unpacked right now
}

// A mark is of one image's layers, the lowest first.
type mark struct {
	Boot   string
	Target ocispec.Descriptor
	Chains []string
}

func newMarks(dir string) *marks {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it each start is a new life
	return &marks{dir: dir, boot: strings.TrimSpace(string(boot)), busy: map[string]int{}}
}

// guard marks layers while fn unpacks them and until they are synced.
func (m *marks) guard(target ocispec.Descriptor, chains []string, fn func() error) error {
	path := m.path(target)
	m.count(path, 1)
	defer m.count(path, -1)
	if err := m.put(target, chains); err != nil {
		return err
	}
	return fn()
}

func (m *marks) count(path string, by int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[path] += by; m.busy[path] == 0 {
		delete(m.busy, path)
	}
}

// put writes a mark that survives what it warns of.
func (m *marks) put(target ocispec.Descriptor, chains []string) error {
	raw, err := json.Marshal(mark{Boot: m.boot, Target: target, Chains: chains})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(m.path(target))
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (m *marks) path(target ocispec.Descriptor) string {
	return filepath.Join(m.dir, target.Digest.Encoded()+".json")
}

func (m *marks) list() ([]mark, []string, error) {
	paths, err := filepath.Glob(filepath.Join(m.dir, "*.json"))
	if err != nil {
		return nil, nil, err
	}
	var all []mark
	for _, path := range paths {
		var one mark
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, &one)
		}
		if err == nil { // otherwise the power went before the unpacking began
			all = append(all, one)
		}
	}
	return all, paths, nil
}

// sync writes the disk out and takes away the marks of what was unpacked before.
func (m *marks) sync() error {
	_, paths, err := m.list()
	if err != nil || len(paths) == 0 {
		return err
	}
	m.mu.Lock()
	paths = slices.DeleteFunc(paths, func(path string) bool { return m.busy[path] > 0 })
	m.mu.Unlock()
	d, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the disk: %w", err)
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// missing lists the layers of target that are not unpacked, the lowest first.
func (s *Store) missing(ctx context.Context, target ocispec.Descriptor) ([]string, error) {
	_, file, err := s.of(ctx, target)
	if err != nil {
		return nil, err
	}
	ids := file.RootFS.DiffIDs
	snapshots := s.store.Client.SnapshotService(s.store.Snapshotter)
	var chains []string
	for i := range ids {
		chain := identity.ChainID(slices.Clone(ids[:i+1])).String()
		_, err := snapshots.Stat(ctx, chain)
		switch {
		case errdefs.IsNotFound(err):
			chains = append(chains, chain)
		case err != nil:
			return nil, fmt.Errorf("look for layer %s: %w", chain, err)
		}
	}
	return chains, nil
}

// calm is how long after an image the disk is synced: whoever waited for the image has more
// to write, which would have to wait for all of the disk.
const calm = 5 * time.Second

// settle syncs what was unpacked, once for all images of a time.
func (s *Store) settle() {
	if !s.settling.CompareAndSwap(false, true) {
		return
	}
	s.syncing.Go(func() {
		timer := time.NewTimer(calm)
		defer timer.Stop()
		select {
		case <-s.closing: // the marks stay, and the next Store goes on
			return
		case <-timer.C:
		}
		s.settling.Store(false) // what is unpacked from here on is synced by the next one
		if err := s.marks.sync(); err != nil {
			s.log.Error("unpacked images are not synced; after a power loss they are unpacked again", "err", err)
		}
	})
}

// Recover unpacks again what a power loss may have left half. It is called before anybody
// uses the layers.
func (s *Store) Recover(ctx context.Context) error {
	all, _, err := s.marks.list()
	if err != nil || len(all) == 0 {
		return err
	}
	risky := map[string]bool{}
	for _, one := range all {
		if one.Boot != s.marks.boot || one.Boot == "" {
			for _, chain := range one.Chains {
				risky[chain] = true
			}
		}
	}
	if len(risky) > 0 {
		if err := s.again(ctx, all, risky); err != nil {
			return err
		}
	}
	s.settle()
	return nil
}

func (s *Store) again(ctx context.Context, all []mark, risky map[string]bool) error {
	ctx, done, err := s.lease(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.store.Sweep(ctx, func(chain string) bool { return !risky[chain] }); err != nil {
		return err
	}
	snapshots := s.store.Client.SnapshotService(s.store.Snapshotter)
	// A layer goes after those that lie on it: as long as one went, others may be free.
	for gone := true; gone; {
		gone = false
		for chain := range risky {
			err := snapshots.Remove(ctx, chain)
			if err == nil || errdefs.IsNotFound(err) {
				delete(risky, chain)
				gone = true
			}
		}
	}
	for _, one := range all {
		s.log.Warn("an image is unpacked again after a power loss", "image", one.Target.Digest)
		if err := s.unpack(ctx, one.Target.Digest.String(), one.Target, nil); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// Close ends what goes on. It is called once.
func (s *Store) Close() {
	close(s.closing)
	s.syncing.Wait()
}
