// Package dockerfile builds Dockerfiles with BuildKit, in this process, on the engine's own stores.
//
// BuildKit is opened by the first build that needs it. Its steps run through runc, within the
// build's limits, each in a network namespace of the network of builds. Layers and cache
// mounts of one scope are not visible to another: each scope has its own cache index, and its
// name is part of the names of cache mounts. Images that a Dockerfile begins with come from
// registries; where none answers, some are made from Debian's packages.
package dockerfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/build/internal/golang"
	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/node"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

const name = "Dockerfile"

// A Builder builds Dockerfiles. It is safe for concurrent use.
type Builder struct {
	dir    string
	engine *engine.Engine // nil on the host
	golang *golang.Builder
	node   *node.Builder

	mu     sync.Mutex
	worker *sharedWorker // nil until it is needed
}

// On makes a Builder that keeps BuildKit's state in dir. The other builders make the images of
// their languages where no registry has them.
func On(e *engine.Engine, dir string, g *golang.Builder, n *node.Builder) *Builder {
	return &Builder{dir: dir, engine: e, golang: g, node: n}
}

func (*Builder) Name() string { return name }

func (*Builder) Detect(t *source.Tree) (string, error) {
	if t.File(name) {
		return "Dockerfile at the root", nil
	}
	return "", nil
}

// Close ends BuildKit.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.worker == nil {
		return nil
	}
	return b.worker.close()
}

// Build gives the Dockerfile to BuildKit.
func (b *Builder) Build(ctx context.Context, j *job.Job) (job.Product, error) {
	if b.engine == nil {
		return job.Product{}, fault.Unavailable("a Dockerfile needs containers, which cannot run on this machine").
			Try("see `sampan doctor` for what is missing, or remove the Dockerfile so that a builder of a language is taken")
	}
	text, err := j.Source.Read(name)
	if err != nil {
		return job.Product{}, err
	}
	if err := b.bases(ctx, j, text); err != nil {
		return job.Product{}, err
	}
	digest, err := b.solve(ctx, j, text)
	if err != nil {
		return job.Product{}, err
	}
	image, err := b.engine.Image(ctx, digest)
	if err != nil {
		return job.Product{}, fmt.Errorf("look at the built image: %w", err)
	}
	j.Out.Step("Made the image")
	j.Out.Detail("%s, %.1f MB", digest, float64(image.Size)/1e6)
	return job.Product{
		Image: j.Name + "@" + digest, Port: port(image.Config.Ports), Shell: true,
		Processes: []job.Process{{Name: "web"}},
	}, nil
}

// port is the first that the image says it listens on.
func port(ports []string) int {
	for _, p := range ports {
		number, protocol, _ := strings.Cut(p, "/")
		if n, err := strconv.Atoi(number); err == nil && protocol != "udp" {
			return n
		}
	}
	return 0
}

// solve runs the build and returns the digest of the image's manifest.
func (b *Builder) solve(ctx context.Context, j *job.Job, text []byte) (string, error) {
	w, err := b.open(ctx)
	if err != nil {
		return "", err
	}
	c, err := w.connect(ctx, filepath.Join(j.Cache, "buildkit"))
	if err != nil {
		return "", err
	}
	defer c.close()
	files, err := fsutil.NewFS(j.App)
	if err != nil {
		return "", fmt.Errorf("open the build context: %w", err)
	}
	opt := client.SolveOpt{
		Frontend: frontendName, FrontendAttrs: attributes(j), SharedKey: j.Scope,
		LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": files},
		Exports: []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{
			"name": j.Name, "unpack": "true", "rewrite-timestamp": "true", "oci-mediatypes": "true",
		}}},
	}
	j.Out.Step("Building with BuildKit")
	var res *client.SolveResponse
	status := make(chan *client.SolveStatus)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { show(j.Out, status); return nil })
	g.Go(func() (err error) {
		res, err = c.client.Solve(ctx, nil, opt, status)
		return err
	})
	if err := g.Wait(); err != nil {
		return "", explain(err, text)
	}
	return res.ExporterResponse["containerimage.digest"], nil
}

// attributes are the frontend's settings. The app's settings are arguments: only a Dockerfile
// that declares one with ARG sees it.
func attributes(j *job.Job) map[string]string {
	const period = 100_000
	a := map[string]string{
		"filename":                            name,
		"image-resolve-mode":                  "local",   // bases were pulled or made before
		"cmdline":                             "builtin", // a "# syntax=" line names an image with code; this frontend is as new
		"build-arg:BUILDKIT_CACHE_MOUNT_NS":   filepath.Base(j.Cache),
		"build-arg:SOURCE_DATE_EPOCH":         strconv.FormatInt(max(j.Time.Unix(), 0), 10),
		"build-arg:BUILDKIT_SANDBOX_HOSTNAME": "build",
	}
	for name, value := range j.Env {
		if !strings.HasPrefix(name, "BUILDKIT_") && name != "SOURCE_DATE_EPOCH" {
			a["build-arg:"+name] = value
		}
	}
	for _, e := range j.Machine.Proxies() {
		name, value, _ := strings.Cut(e, "=")
		a["build-arg:"+name] = value
	}
	if j.Limits.Memory > 0 {
		a["memory"] = strconv.FormatInt(j.Limits.Memory, 10)
		a["memswap"] = a["memory"]
	}
	if j.Limits.CPUs > 0 {
		a["cpuperiod"] = strconv.Itoa(period)
		a["cpuquota"] = strconv.FormatInt(int64(j.Limits.CPUs*period), 10)
	}
	return a
}

// explain names the Dockerfile's line where BuildKit knows it.
func explain(err error, text []byte) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	message := strings.TrimSpace(err.Error())
	for _, noise := range []string{"failed to solve: ", "rpc error: code = Unknown desc = ", "dockerfile parse error on ", "failed to compute cache key: "} {
		message = strings.ReplaceAll(message, noise, "")
	}
	if i := strings.Index(message, "line "); i == 0 {
		return fault.Invalid("Dockerfile %s", message).Try("correct it, commit and push again")
	}
	for _, s := range errdefs.Sources(err) {
		if len(s.Ranges) > 0 {
			n := int(s.Ranges[0].GetStart().GetLine())
			return fault.Invalid("Dockerfile line %d (%s) failed: %s", n, lineOf(text, n), message).Try("read what it printed above")
		}
	}
	return fault.Invalid("the Dockerfile cannot be built: %s", message).Try("read what it printed above")
}

func lineOf(text []byte, n int) string {
	lines := bytes.Split(text, []byte("\n"))
	if n < 1 || n > len(lines) {
		return ""
	}
	line := strings.TrimSpace(string(lines[n-1]))
	if len(line) > 60 {
		line = line[:57] + "..."
	}
	return line
}

// open starts BuildKit's worker, once.
func (b *Builder) open(ctx context.Context) (*sharedWorker, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.worker != nil {
		return b.worker, nil
	}
	if err := os.MkdirAll(b.dir, 0o711); err != nil {
		return nil, fmt.Errorf("start BuildKit: %w", err)
	}
	w, err := openWorker(context.WithoutCancel(ctx), b.engine, b.dir)
	if err != nil {
		return nil, err
	}
	b.worker = w
	return w, nil
}
