package node

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"sampan.dev/sampan/build/internal/fetch"
	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/internal/fault"
)

// A package's page is asked for again after a day, so that equal builds of one day take equal releases.
const fresh = 24 * time.Hour

const (
	largestPage    = 64 << 20
	largestTarball = 256 << 20
	largestTree    = 1 << 30
)

// A page is the part of a package's page that matters here (npm's abbreviated metadata).
type page struct {
	Versions map[string]struct {
		Dist struct {
			Integrity string `json:"integrity"`
		} `json:"dist"`
	} `json:"versions"`
}

// binaries is the package of the registry that holds node for this machine.
func binaries() string {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64", "386": "x86"}[runtime.GOARCH]
	return "node-" + runtime.GOOS + "-" + arch
}

// page fetches a package's page, or takes the one of today.
func (b *Builder) page(ctx context.Context, j *job.Job, name string) (page, error) {
	file := filepath.Join(b.dir, name+".json")
	text, failed := os.ReadFile(file)
	if info, err := os.Stat(file); err != nil || failed != nil || time.Since(info.ModTime()) > fresh {
		got, err := b.fetchPage(ctx, j, name)
		if err != nil && failed != nil { // an old page is better than none
			return page{}, err
		}
		if err == nil {
			text = got
			if err := errors.Join(os.WriteFile(file+".new", text, 0o644), os.Rename(file+".new", file)); err != nil {
				return page{}, fmt.Errorf("keep the page of %s: %w", name, err)
			}
		}
	}
	var p page
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("read the page of %s: %w", name, err)
	}
	return p, nil
}

func (b *Builder) fetchPage(ctx context.Context, j *job.Job, name string) ([]byte, error) {
	registry := j.Machine.Registry()
	if registry == "" {
		return nil, fault.Unavailable("no npm registry is set to fetch Node from").Try("set npm_config_registry for the server")
	}
	text, err := fetch.By(j.Machine).Bytes(ctx, registry+name, largestPage)
	if err != nil {
		return nil, fault.Unavailable("the npm registry does not answer: %w", err).Try("check the server's network and npm_config_registry")
	}
	return text, nil
}

// newest is the best release of a package in a range.
func (b *Builder) newest(ctx context.Context, j *job.Job, name string, r Range) (Version, string, error) {
	p, err := b.page(ctx, j, name)
	if err != nil {
		return Version{}, "", err
	}
	var all []Version
	for text := range p.Versions {
		if v, ok := ParseVersion(text); ok {
			all = append(all, v)
		}
	}
	v, ok := r.Best(all)
	if !ok {
		return v, "", fault.Invalid("no release of Node is in the range that package.json asks for").
			Try("write for example \"engines\": {\"node\": \"22.x\"}")
	}
	return v, p.Versions[v.String()].Dist.Integrity, nil
}

// unpacked is the directory of a package's files, fetched once. want chooses files.
func (b *Builder) unpacked(ctx context.Context, j *job.Job, name string, v Version, integrity string, want func(string) bool) (string, error) {
	done, err := b.turns.Take(ctx, name)
	if err != nil {
		return "", err
	}
	defer done()
	dir := filepath.Join(b.dir, name+"-"+v.String())
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	j.Out.Detail("fetching %s %s, which is kept for later builds", strings.TrimSuffix(name, strings.TrimPrefix(binaries(), "node")), v)
	tmp, err := os.MkdirTemp(b.dir, "fetch-")
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "tgz")
	from := j.Machine.Registry() + name + "/-/" + name + "-" + v.String() + ".tgz"
	if err := fetch.By(j.Machine).File(ctx, from, file, largestTarball); err != nil {
		return "", fault.Unavailable("%s %s cannot be fetched: %w", name, v, err).Try("check the server's network and npm_config_registry")
	}
	if err := verify(file, integrity); err != nil {
		return "", fault.Unavailable("%s %s is not what the registry promised: %w", name, v, err).Try("try again; check npm_config_registry")
	}
	tree := filepath.Join(tmp, "tree")
	if err := untar(file, tree, want); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	return dir, keep.Dir(tree, dir)
}

// verify compares with Subresource Integrity: "sha512-…".
func verify(file, integrity string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	got := "sha512-" + base64.StdEncoding.EncodeToString(h.Sum(nil))
	for _, want := range strings.Fields(integrity) {
		if want == got {
			return nil
		}
	}
	return fmt.Errorf("%s instead of %q", got, integrity)
}

// untar unpacks the regular files of a package, which all lie below one directory.
func untar(file, to string, want func(string) bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(largestTree)
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, ok := strings.Cut(path.Clean(h.Name), "/")
		if h.Typeflag != tar.TypeReg || !ok || !want(name) {
			continue
		}
		if left -= h.Size; left < 0 {
			return errors.New("it is too large")
		}
		if err := write(root, name, h, t); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func write(root *os.Root, name string, h *tar.Header, in io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|h.FileInfo().Mode()&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
