// Package volume keeps directories that outlive the containers which use them.
//
// A volume is a directory below that of the Store, with its data in it and a file that
// describes it. What Create returned survives power loss. One whose options name a device
// has that mounted at its data while it is in use.
package volume

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"sync"
	"time"

	"github.com/containerd/continuity/fs"
	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// Local is the name of the only driver there is.
const Local = "local"

// A Spec is what a volume shall be.
type Spec struct {
	Name      string
	Driver    string            // empty: local
	Options   map[string]string // "type", "device" and "o" as of mount(8)
	Labels    map[string]string
	Anonymous bool // nobody chose its name
}

// A Volume is one of them.
type Volume struct {
	Spec
	Path    string // on the host
	Created time.Time
}

// A Store is safe for concurrent use: each step is one of the file system's.
type Store struct {
	dir  string
	name *regexp.Regexp

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by name
}

// Open keeps volumes in dir.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of the volumes: %w", err)
	}
	return &Store{dir: dir, locks: map[string]*sync.Mutex{}, name: regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)}, nil
}

// Create makes a volume, or returns the one that has the name. An empty name is chosen.
func (s *Store) Create(spec Spec) (Volume, error) {
	if spec.Name == "" {
		spec.Name, spec.Anonymous = randomName(), true
	}
	if !s.name.MatchString(spec.Name) {
		return Volume{}, fault.Invalid("a volume cannot be named %q", spec.Name).
			Try("use letters, digits, dots, dashes and underscores, and begin with a letter or a digit").On("name")
	}
	spec.Driver = cmp.Or(spec.Driver, Local)
	if spec.Driver != Local {
		return Volume{}, fault.NotFound("there is no volume driver %s", spec.Driver).Try("use local, which mounts what mount(8) can: -o type=nfs -o device=… -o o=…")
	}
	if v, err := s.Volume(spec.Name); err == nil {
		if len(spec.Options) > 0 && !maps.Equal(v.Options, spec.Options) {
			return Volume{}, fault.Conflict("the volume %s has other options", spec.Name).Try("remove it first, or choose another name")
		}
		return v, nil
	}
	if err := checkOptions(spec.Options); err != nil {
		return Volume{}, err
	}
	v := Volume{Spec: spec, Path: s.data(spec.Name), Created: time.Now().UTC()}
	if err := os.MkdirAll(v.Path, 0o755); err != nil {
		return Volume{}, fmt.Errorf("make the volume %s: %w", spec.Name, err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return Volume{}, fmt.Errorf("describe the volume %s: %w", spec.Name, err)
	}
	if err := s.describe(spec.Name, raw); err != nil {
		return Volume{}, fmt.Errorf("describe the volume %s: %w", spec.Name, err)
	}
	return v, nil
}

func randomName() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// describe writes the file that makes a directory a volume, last and synced.
func (s *Store) describe(name string, raw []byte) error {
	dir := filepath.Join(s.dir, name)
	f, err := os.CreateTemp(dir, "new")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, file)); err != nil {
		return err
	}
	for _, d := range []string{dir, s.dir} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

const file = "volume.json"

func (s *Store) data(name string) string { return filepath.Join(s.dir, name, "data") }

// Volume finds one.
func (s *Store) Volume(name string) (Volume, error) {
	if !s.name.MatchString(name) {
		return Volume{}, fault.NotFound("there is no volume %s", name)
	}
	raw, err := os.ReadFile(filepath.Join(s.dir, name, file))
	if errors.Is(err, os.ErrNotExist) {
		return Volume{}, fault.NotFound("there is no volume %s", name)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("read the volume %s: %w", name, err)
	}
	var v Volume
	if err := json.Unmarshal(raw, &v); err != nil {
		return Volume{}, fmt.Errorf("read the volume %s: %w", name, err)
	}
	v.Path = s.data(name)
	return v, nil
}

// Volumes lists all by name.
func (s *Store) Volumes() ([]Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the volumes: %w", err)
	}
	all := make([]Volume, 0, len(entries))
	for _, entry := range entries {
		v, err := s.Volume(entry.Name())
		if fault.Is(err, fault.KindNotFound) {
			continue // being made, or half removed by a crash
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// Remove deletes a volume and what is in it. The caller knows that nobody uses it.
func (s *Store) Remove(name string) error {
	if _, err := s.Volume(name); err != nil {
		return err
	}
	unlock := s.lock(name)
	defer unlock()
	if err := s.release(name); err != nil {
		return err
	}
	// First it is no volume any more, then its data goes: never the other way round.
	if err := os.Remove(filepath.Join(s.dir, name, file)); err != nil {
		return fmt.Errorf("remove the volume %s: %w", name, err)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("remove the data of the volume %s: %w", name, err)
	}
	return nil
}

// Fill copies what an image has at target into a volume that is still empty, as its first
// container expects it there. It is there whole or not at all.
func (s *Store) Fill(v Volume, rootfs, target string) error {
	unlock := s.lock(v.Name)
	defer unlock()
	entries, err := os.ReadDir(v.Path)
	if err != nil || len(entries) > 0 {
		return err
	}
	source, err := securejoin.SecureJoin(rootfs, target)
	if err != nil {
		return fault.Invalid("the image's %s cannot be read: %w", target, err)
	}
	info, err := os.Stat(source)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err == nil {
		err = s.copy(v, source)
	}
	if err != nil {
		return fmt.Errorf("fill the volume %s from the image's %s: %w", v.Name, target, err)
	}
	return nil
}

// copy fills the data of a volume. A device that is mounted there cannot be renamed.
func (s *Store) copy(v Volume, source string) error {
	if v.Options["device"] != "" {
		return fs.CopyDir(v.Path, source)
	}
	fresh := v.Path + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := fs.CopyDir(fresh, source); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return unix.Rename(fresh, v.Path) // over an empty directory, which os.Rename refuses
}

// lock is held by who changes the data or the mount of a volume.
func (s *Store) lock(name string) (unlock func()) {
	s.mu.Lock()
	l := s.locks[name]
	if l == nil {
		l = &sync.Mutex{}
		s.locks[name] = l
	}
	s.mu.Unlock()
	l.Lock()
	return l.Unlock
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
