// Package golang builds Go modules: static programs on an image without anything else.
//
// The standard library is compiled once for each release, by nobody's code; each app begins
// its own build cache with links to those files, which it cannot write, and adds to it what
// no other app reads. Modules are fetched for each app and checked by its go.sum.
package golang

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"sampan.dev/sampan/build/internal/fetch"
	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/build/internal/turn"
	"sampan.dev/sampan/internal/fault"
)

// Where things lie in a build container.
const (
	atRoot    = "/usr/local/go"
	atSource  = "/src"
	atOut     = "/out"
	atCache   = "/cache/build"
	atModules = "/cache/modules"
	atTmp     = "/tmp"
)

// A Builder builds Go. It is safe for concurrent use.
type Builder struct {
	dir   string
	turns turn.Turns

	mu      sync.Mutex
	fetcher *fetch.Client
}

// In makes a Builder that keeps what all apps share in dir.
func In(dir string) *Builder { return &Builder{dir: dir} }

func (*Builder) Name() string { return "Go" }

func (*Builder) Detect(t *source.Tree) (string, error) {
	if !t.File("go.mod") {
		return "", nil
	}
	text, err := t.Read("go.mod")
	if err != nil {
		return "", err
	}
	m, err := Parse(text)
	if err != nil {
		return "", err
	}
	switch {
	case m.Toolchain != "":
		return "go.mod at the root names " + m.Toolchain, nil
	case m.Go != "":
		return "go.mod at the root names go " + m.Go, nil
	}
	return "go.mod at the root", nil
}

func (b *Builder) client(j *job.Job) *fetch.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fetcher == nil {
		b.fetcher = fetch.By(j.Machine)
	}
	return b.fetcher
}

// Build compiles the module's programs.
func (b *Builder) Build(ctx context.Context, j *job.Job) (job.Product, error) {
	text, err := j.Source.Read("go.mod")
	if err != nil {
		return job.Product{}, err
	}
	m, err := Parse(text)
	if err != nil {
		return job.Product{}, err
	}
	mains, err := programs(j.App)
	if err != nil {
		return job.Product{}, err
	}
	t, err := b.toolchain(ctx, j, m.Release())
	if err != nil {
		return job.Product{}, err
	}
	base, err := bare(ctx, j, t)
	if err != nil {
		return job.Product{}, err
	}
	c, err := b.caches(ctx, j, t, base)
	if err != nil {
		return job.Product{}, err
	}
	j.Out.Step("Compiling %s with %s", named(m, mains), t.release)
	out := filepath.Join(j.Scratch, "out")
	if err := compile(ctx, j, t, base, c, out, mains); err != nil {
		return job.Product{}, err
	}
	p, err := product(j, base, out)
	if err == nil && base != "" && j.NeedsShell() {
		p.Shell = true
		p.Base, err = j.Roots.Shell(ctx, j.Out, zones(t))
	}
	return p, err
}

// zones are the time zones that a release of Go comes with.
func zones(t toolchain) string { return filepath.Join(t.root, "lib", "time", "zoneinfo.zip") }

// named says what is compiled: a program at the root has its module's name.
func named(m Module, mains []string) string {
	if mains[0] == "." {
		return m.Path
	}
	return strings.Join(mains, ", ")
}

// programs are the Mains of the copy; links that lead out of it are not followed.
func programs(dir string) ([]string, error) {
	tree, err := source.Open(dir)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	return Mains(tree.FS())
}

// bare is the image that Go programs are built and run on.
func bare(ctx context.Context, j *job.Job, t toolchain) (string, error) {
	if j.Roots == nil {
		return "", nil
	}
	return j.Roots.Bare(ctx, zones(t))
}

// compile runs go build in the sandbox.
func compile(ctx context.Context, j *job.Job, t toolchain, image string, c caches, out string, mains []string) error {
	o := sandbox.Mount{Host: filepath.Join(out, "bin"), At: atOut}
	s := sandbox.Mount{Host: j.App, At: atSource, ReadOnly: true}
	if err := folder(o.Host, j.Box.Owner()); err != nil {
		return err
	}
	g := goCommand(j, t, image, c)
	g.Argv = append(g.Argv, "build", "-trimpath", "-ldflags=-s -w", "-o", j.Box.See(o)+"/")
	g.Argv = append(g.Argv, mains...)
	g.Dir = j.Box.See(s)
	g.Env = j.Environment(g.Env...)
	g.Mounts = append(g.Mounts, s, o)
	lines := j.Out.Lines()
	g.Output = lines
	err := j.Box.Run(ctx, g)
	lines.Close()
	if _, ok := sandbox.Failed(err); ok {
		return explain(err, j.Out.Last())
	}
	return err
}

// goCommand is go with its mounts and environment; the caller says what it shall do.
func goCommand(j *job.Job, t toolchain, image string, c caches) sandbox.Command {
	root := sandbox.Mount{Host: t.root, At: atRoot, ReadOnly: true}
	tmp := sandbox.Mount{Host: c.tmp, At: atTmp}
	build := sandbox.Mount{Host: c.build, At: atCache}
	modules := sandbox.Mount{Host: c.modules, At: atModules}
	env := append(j.Machine.Go(),
		"CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false -modcacherw", "GOENV=off", "GOTELEMETRY=off", "GOWORK=off",
		"GOROOT="+j.Box.See(root), "GOCACHE="+j.Box.See(build), "GOMODCACHE="+j.Box.See(modules),
		"GOPATH="+path.Join(j.Box.See(tmp), "go"), "TMPDIR="+j.Box.See(tmp), "HOME="+j.Box.See(tmp),
		"PATH="+path.Join(j.Box.See(root), "bin")+hostPath(j))
	if file := certificates(j); file != "" {
		env = append(env, "SSL_CERT_FILE="+file)
	}
	return sandbox.Command{
		Image: image, Argv: []string{path.Join(j.Box.See(root), "bin", "go")}, Env: env,
		Mounts: []sandbox.Mount{root, tmp, build, modules}, Limits: j.Limits,
	}
}

// hostPath adds the host's programs where they are all there is; go wants git for some modules.
func hostPath(j *job.Job) string {
	if j.Box.Contained() {
		return ""
	}
	return ":" + j.Machine.Get("PATH")
}

// certificates are in the bare image, or where the host has them.
func certificates(j *job.Job) string {
	if j.Box.Contained() {
		return ""
	}
	return j.Machine.Certificates()
}

// product is the app's files and its programs.
func product(j *job.Job, base, out string) (job.Product, error) {
	bins, err := os.ReadDir(filepath.Join(out, "bin"))
	if err != nil {
		return job.Product{}, fmt.Errorf("look for the programs: %w", err)
	}
	p := job.Product{
		Base: base,
		Parts: []pack.Part{
			{Dir: j.App, At: pack.App, Skip: "bin"},
			{Dir: out, At: pack.App},
		},
		Env: []string{"PATH=" + path.Join(pack.App, "bin") + ":/usr/local/bin:/usr/bin:/bin"},
	}
	for _, f := range bins {
		if f.Type() != fs.FileMode(0) {
			return job.Product{}, fault.Invalid("go build made %s, which is no program", f.Name())
		}
		p.Processes = append(p.Processes, job.Process{Name: processName(f.Name(), len(bins)), Argv: []string{path.Join(pack.App, "bin", f.Name())}})
	}
	return p, nil
}

// processName is web for the only program there is; several have their own names.
func processName(program string, of int) string {
	if of == 1 {
		return "web"
	}
	return program
}
