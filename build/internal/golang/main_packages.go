package golang

import (
	"errors"
	"fmt"
	"go/build"
	"io"
	"io/fs"
	"path"
	"sort"

	"sampan.dev/sampan/internal/fault"
)

// Mains finds the programs of a module: the one at its root, or else those in cmd/.
func Mains(tree fs.FS) ([]string, error) {
	root, err := isMain(tree, ".")
	if err != nil || root {
		return []string{"."}, err
	}
	dirs, err := fs.ReadDir(tree, "cmd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for programs: %w", err)
	}
	var mains []string
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		name := path.Join("cmd", d.Name())
		found, err := isMain(tree, name)
		if err != nil {
			return nil, err
		}
		if found {
			mains = append(mains, "./"+name)
		}
	}
	sort.Strings(mains)
	if len(mains) == 0 {
		return nil, fault.Invalid("there is no program: no package main at the root or in a directory of cmd/").
			Try("put package main into the root or into cmd/NAME")
	}
	return mains, nil
}

// isMain asks go's own rules (build constraints, file names) about a directory.
func isMain(tree fs.FS, dir string) (bool, error) {
	c := build.Default
	c.GOOS, c.CgoEnabled, c.GOPATH, c.GOROOT = "linux", false, "", ""
	c.JoinPath = path.Join
	c.IsDir = func(name string) bool {
		info, err := fs.Stat(tree, name)
		return err == nil && info.IsDir()
	}
	c.HasSubdir = func(string, string) (string, bool) { return "", false }
	c.ReadDir = func(name string) ([]fs.FileInfo, error) { return infos(tree, name) }
	c.OpenFile = func(name string) (io.ReadCloser, error) { return tree.Open(name) }
	p, err := c.ImportDir(dir, 0)
	var none *build.NoGoError
	var mixed *build.MultiplePackageError
	switch {
	case errors.As(err, &none):
		return false, nil
	case errors.As(err, &mixed):
		return false, fault.Invalid("%s has files of two packages, %s and %s", dir, mixed.Packages[0], mixed.Packages[1]).
			Try("give them one package name or move one of them")
	case err != nil:
		return false, fault.Invalid("%s cannot be read as Go: %w", dir, err)
	}
	return p.Name == "main" && len(p.GoFiles) > 0, nil
}

func infos(tree fs.FS, name string) ([]fs.FileInfo, error) {
	entries, err := fs.ReadDir(tree, name)
	if err != nil {
		return nil, err
	}
	var all []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}
