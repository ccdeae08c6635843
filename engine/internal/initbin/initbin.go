// Package initbin carries the built sampan-init inside the sampan program and puts it on disk.
//
// A build by make embeds engine/internal/initbin/bin/sampan-init. A plain `go build` embeds
// nothing; sampan-init is then looked for beside the program or where the caller says.
package initbin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sampan.dev/sampan/internal/fault"
)

const name = "sampan-init"

//go:embed all:bin
var embedded embed.FS

// Path returns the path of a sampan-init that may be run. It is, in this order: hint, when
// that is not empty; the embedded one, put into dir under the hash of its content, so that
// versions live side by side; the one beside the running program.
func Path(dir, hint string) (string, error) {
	if hint != "" {
		return found(hint)
	}
	content, err := embedded.ReadFile("bin/" + name)
	if err == nil {
		return extract(dir, content)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("look beside the program for %s: %w", name, err)
	}
	return found(filepath.Join(filepath.Dir(self), name))
}

// found says in the user's words what is wrong with a path.
func found(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fault.Unavailable("containers cannot run: there is no %s", path).
			Try("build with `make build`, which puts %s into the program, or name it with SAMPAN_INIT", name)
	case err != nil:
		return "", fmt.Errorf("look for %s: %w", name, err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		return "", fault.Unavailable("containers cannot run: %s is not a program", path).
			Try("name the built %s with SAMPAN_INIT", name)
	}
	return filepath.Abs(path)
}

// extract writes content once. A half-written file is never seen under the final name.
func extract(dir string, content []byte) (string, error) {
	sum := sha256.Sum256(content)
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:8]))
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(content)) {
		return filepath.Abs(path)
	}
	if err := write(dir, path, content); err != nil {
		return "", fmt.Errorf("put %s into %s: %w", name, dir, err)
	}
	return filepath.Abs(path)
}

func write(dir, path string, content []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o700), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
