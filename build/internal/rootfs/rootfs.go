// Package rootfs makes the images that builds run in and that apps stand on.
//
// They are made on this machine, once, and named by what is in them: the bare one holds
// certificates, time zones and a user without rights; the others are Debian.
package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/build/internal/machine"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/step"
	"sampan.dev/sampan/build/internal/turn"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// User is who apps and builds run as.
const User = 10001

// Where programs look for certificates and Go programs for time zones.
const (
	Certificates = "/etc/ssl/certs/ca-certificates.crt"
	Zones        = "/usr/share/zoneinfo.zip"
)

// host is what the images' names begin with; it is no registry, so that nobody can serve them.
const host = "sampan.local/"

// A Store makes images and remembers them. It is safe for concurrent use.
type Store struct {
	engine  *engine.Engine
	machine *machine.Settings
	dir     string
	turns   turn.Turns
}

// In makes a Store that works in dir.
func In(dir string, e *engine.Engine, m *machine.Settings) *Store {
	return &Store{engine: e, machine: m, dir: dir}
}

// Bare is an image without programs. The time zones are a zip file as Go ships it.
func (s *Store) Bare(ctx context.Context, zones string) (string, error) {
	return s.bare(ctx, "bare", zones, func() (string, error) { return "", nil })
}

// Shell is a Bare image with busybox, for commands that need a shell.
func (s *Store) Shell(ctx context.Context, out *step.Output, zones string) (string, error) {
	return s.bare(ctx, "shell", zones, func() (string, error) {
		return Busybox, s.Base(ctx, out, Busybox, func() error { return s.MakeBusybox(ctx, out, Busybox) })
	})
}

// bare lays what every image needs over the image that base makes.
func (s *Store) bare(ctx context.Context, name, zones string, base func() (string, error)) (string, error) {
	files, err := s.bareFiles(zones)
	if err != nil {
		return "", err
	}
	key := digest(files)
	ref := host + name + ":" + key
	done, err := s.turns.Take(ctx, ref)
	if err != nil {
		return "", err
	}
	defer done()
	if known, err := s.known(ctx, ref); known || err != nil {
		return ref, err
	}
	below, err := base()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, "bare-"+key)
	if err := s.write(dir, files); err != nil {
		return "", fmt.Errorf("make the image %s: %w", ref, err)
	}
	return ref, s.assemble(ctx, ref, below, []pack.Part{{Dir: dir, At: "/"}},
		"SSL_CERT_FILE="+Certificates, "ZONEINFO="+Zones, "HOME=/tmp")
}

// known reports whether an image of that name can be used.
func (s *Store) known(ctx context.Context, ref string) (bool, error) {
	_, err := s.engine.Image(ctx, ref)
	if err == nil {
		return true, nil
	}
	if fault.Is(err, fault.KindNotFound) {
		return false, nil
	}
	return false, fmt.Errorf("look for %s: %w", ref, err)
}

func (s *Store) bareFiles(zones string) (map[string][]byte, error) {
	id := fmt.Sprintf("%d:%d", User, User)
	files := map[string][]byte{
		"etc/passwd":        []byte("root:x:0:0:root:/:/sbin/nologin\napp:x:" + id + ":app:/tmp:/sbin/nologin\n"),
		"etc/group":         []byte(fmt.Sprintf("root:x:0:\napp:x:%d:\n", User)),
		"etc/nsswitch.conf": []byte("hosts: files dns\n"),
	}
	for name, from := range map[string]string{Certificates: s.machine.Certificates(), Zones: zones} {
		if from == "" {
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, fmt.Errorf("read what every image needs: %w", err)
		}
		files[name[1:]] = text
	}
	return files, nil
}

// digest names a set of files; fmt prints maps in the order of their keys.
func digest(files map[string][]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", files)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// write makes the directory with the files and a /tmp for all.
func (s *Store) write(dir string, files map[string][]byte) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.MkdirTemp(s.dir, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for name, text := range files {
		file := filepath.Join(tmp, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(tmp, "tmp"), 0o777); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(tmp, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	return keep.Dir(tmp, dir)
}
