package golang

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/internal/fault"
)

// toolchainModule is the one that Go's own releases are published as (go.dev/ref/mod, "Toolchains").
const toolchainModule = "golang.org/toolchain"

// largest toolchain to take, packed and unpacked.
const (
	largestZip  = 512 << 20
	largestTree = 2 << 30
)

// A toolchain is an unpacked Go release.
type toolchain struct {
	root    string // GOROOT on the host
	release string // "go1.26.8"
}

// toolchain finds the release on the host or fetches it, once.
func (b *Builder) toolchain(ctx context.Context, j *job.Job, release string) (toolchain, error) {
	if root, version := j.Machine.HostGo(); version == release && root != "" {
		return toolchain{root, release}, nil
	}
	done, err := b.turns.Take(ctx, "toolchain "+release)
	if err != nil {
		return toolchain{}, err
	}
	defer done()
	dir := filepath.Join(b.dir, "toolchain", release)
	if _, err := os.Stat(dir); err == nil {
		return toolchain{dir, release}, nil
	}
	j.Out.Step("Fetching %s, which is kept for later builds", release)
	if err := b.fetch(ctx, j, release, dir); err != nil {
		return toolchain{}, err
	}
	return toolchain{dir, release}, nil
}

// fetch downloads, verifies and unpacks a release; it is at dir when it is whole.
func (b *Builder) fetch(ctx context.Context, j *job.Job, release, dir string) error {
	proxies := j.Machine.GoProxies()
	if len(proxies) == 0 {
		return fault.Unavailable("%s is needed, and no Go module proxy is set to fetch it from", release).
			Try("set GOPROXY for the server, or install %s", release)
	}
	tmp, err := os.MkdirTemp(b.dir, "fetch-")
	if err != nil {
		return fmt.Errorf("fetch %s: %w", release, err)
	}
	defer os.RemoveAll(tmp)
	version := "v0.0.1-" + release + "." + runtime.GOOS + "-" + runtime.GOARCH
	file := filepath.Join(tmp, "zip")
	var failed error
	for _, p := range proxies {
		if failed = b.client(j).File(ctx, p+"/"+toolchainModule+"/@v/"+version+".zip", file, largestZip); failed == nil {
			break
		}
	}
	if failed != nil {
		return fault.Unavailable("%s cannot be fetched: %w", release, failed).
			Try("check go.mod's version and the server's GOPROXY, or install %s", release)
	}
	tree := filepath.Join(tmp, "tree")
	unpacked := make(chan error, 1)
	go func() { unpacked <- unpack(file, toolchainModule+"@"+version+"/", tree) }()
	// Meanwhile; what does not pass is never used.
	err = b.verify(ctx, j, file, version, proxies)
	if failed := <-unpacked; err == nil && failed != nil {
		err = fmt.Errorf("unpack %s: %w", release, failed)
	}
	if err != nil {
		return err
	}
	return keep.Dir(tree, dir)
}

// verify compares the file with the checksum database, where there is one that answers.
func (b *Builder) verify(ctx context.Context, j *job.Job, file, version string, proxies []string) error {
	sum, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		return fmt.Errorf("hash the toolchain: %w", err)
	}
	lines, err := check(ctx, b.client(j), filepath.Join(b.dir, "sumdb"), j.Machine.SumDB(), proxies, toolchainModule, version)
	if errors.Is(err, errSilent) {
		j.Out.Detail("no checksum database answers; the module proxy is believed: %s", sum)
		return nil
	}
	if err != nil {
		return err
	}
	if want := toolchainModule + " " + version + " " + sum; !slices.Contains(lines, want) {
		return fault.Unavailable("the module proxy gave a %s that is not the published one", version).
			Try("check the server's GOPROXY: somebody may be changing what it serves")
	}
	return nil
}

// needed says whether a file of a release serves to build programs; tests, half of the files,
// do not.
func needed(name string) bool {
	return !strings.HasSuffix(name, "_test.go") && !strings.Contains(name, "/testdata/")
}

// unpack writes what is needed below prefix. Module zips keep no modes: what go would mark as
// executable is.
func unpack(file, prefix, to string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(largestTree)
	made := map[string]bool{}
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok || name == "" || strings.HasSuffix(name, "/") || !needed(name) {
			continue
		}
		if dir := path.Dir(name); !made[dir] {
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			made[dir] = true
		}
		n, err := unpackOne(root, f, name, left)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		left -= n
	}
	return nil
}

func unpackOne(root *os.Root, f *zip.File, name string, left int64) (int64, error) {
	in, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	mode := os.FileMode(0o644)
	if strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "pkg/tool/") {
		mode = 0o755
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, left+1))
	if err == nil && n > left {
		err = errors.New("the toolchain is too large")
	}
	return n, errors.Join(err, out.Close())
}
