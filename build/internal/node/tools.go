package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/rootfs"
	"sampan.dev/sampan/internal/fault"
)

// tools are node and npm, as a command finds them.
type tools struct {
	image   string // empty on the host
	npm     string
	path    string
	version string // what installed modules depend on
}

// npmRange is of the npm that is used: the line that runs on all releases of Node since 18.
const npmRange = "10.x"

// tools makes the image with node and npm, or finds them on the host.
func (b *Builder) tools(ctx context.Context, j *job.Job, p Package) (tools, error) {
	if !j.Box.Contained() {
		return hostTools(ctx, j)
	}
	r, err := ParseRange(p.Engines.Node)
	if err != nil {
		return tools{}, err
	}
	j.Out.Step("Choosing Node")
	v, integrity, err := b.newest(ctx, j, binaries(), r)
	if err != nil {
		return tools{}, err
	}
	j.Out.Detail("Node %s, the newest release with long support that package.json allows", v)
	image, err := j.Roots.Official(ctx, j.Out, "docker.io/library/node:"+v.String()+"-"+rootfs.Release+"-slim", "node:"+v.String(), func() ([]pack.Part, error) {
		return b.parts(ctx, j, v, integrity)
	})
	return tools{image, "npm", "/usr/local/bin:/usr/bin:/bin", v.String()}, err
}

// parts are node and npm from the npm registry, for a Debian without them.
func (b *Builder) parts(ctx context.Context, j *job.Job, v Version, integrity string) ([]pack.Part, error) {
	node, err := b.unpacked(ctx, j, binaries(), v, integrity, func(file string) bool { return file == "bin/node" })
	if err != nil {
		return nil, err
	}
	npm, err := b.npm(ctx, j)
	if err != nil {
		return nil, err
	}
	return []pack.Part{{Dir: filepath.Join(node, "bin"), At: "/usr/local/bin"}, {Dir: npm, At: "/usr/local"}}, nil
}

// npm is the directory of npm, laid out as it is below /usr/local.
func (b *Builder) npm(ctx context.Context, j *job.Job) (string, error) {
	r, err := ParseRange(npmRange)
	if err != nil {
		return "", err
	}
	v, integrity, err := b.newest(ctx, j, "npm", r)
	if err != nil {
		return "", err
	}
	files, err := b.unpacked(ctx, j, "npm", v, integrity, func(string) bool { return true })
	if err != nil {
		return "", err
	}
	dir := files + "-installed"
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return dir, err
	}
	tmp, err := os.MkdirTemp(b.dir, "npm-")
	if err != nil {
		return "", fmt.Errorf("lay out npm: %w", err)
	}
	defer os.RemoveAll(tmp)
	to := filepath.Join(tmp, "lib/node_modules/npm")
	err = errors.Join(
		os.MkdirAll(filepath.Join(tmp, "bin"), 0o755),
		os.MkdirAll(to, 0o755),
		os.CopyFS(to, os.DirFS(files)),
		os.Symlink("../lib/node_modules/npm/bin/npm-cli.js", filepath.Join(tmp, "bin/npm")),
		os.Symlink("../lib/node_modules/npm/bin/npx-cli.js", filepath.Join(tmp, "bin/npx")),
	)
	for _, cli := range []string{"bin/npm-cli.js", "bin/npx-cli.js"} {
		err = errors.Join(err, os.Chmod(filepath.Join(to, cli), 0o755))
	}
	if err != nil {
		return "", fmt.Errorf("lay out npm: %w", err)
	}
	return dir, keep.Dir(tmp, dir)
}

// hostTools are those in the PATH of the server.
func hostTools(ctx context.Context, j *job.Job) (tools, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return tools{}, fault.Unavailable("npm is not installed on this machine").Try("install node and npm, or let the server run containers")
	}
	out, err := exec.CommandContext(ctx, "node", "--version").Output()
	if err != nil {
		return tools{}, fault.Unavailable("node does not run on this machine: %w", err).Try("install node and npm, or let the server run containers")
	}
	version := strings.TrimSpace(string(out))
	j.Out.Detail("the host's Node %s is used", version)
	return tools{"", npm, j.Machine.Get("PATH"), version}, nil
}
