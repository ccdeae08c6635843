package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/procfile"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/build/internal/step"
	"sampan.dev/sampan/internal/fault"
)

// defaults fills in the limits that a request leaves open.
func (l Limits) defaults() Limits {
	fill(&l.Memory, 2<<30)
	fill(&l.Pids, 1024)
	fill(&l.Time, 15*time.Minute)
	fill(&l.Output, 4<<20)
	fill(&l.Source, 1<<30)
	return l
}

func fill[T ~int64](v *T, by T) {
	if *v <= 0 {
		*v = by
	}
}

// dated is the time that files and images get. Whoever commits writes any date; formats know
// those from 1970 to 9999.
func dated(t time.Time) time.Time {
	first, last := time.Unix(0, 0), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	switch {
	case t.Before(first):
		return first
	case t.After(last):
		return last
	}
	return t
}

// mostFiles is how many a tree may have.
const mostFiles = 200_000

// Build turns a request into a result. A build that breaks is a fault that says why; what it
// printed is in Output.
func (b *Builder) Build(ctx context.Context, req Request) (Result, error) {
	if req.Cache == "" || req.Name == "" {
		return Result{}, errors.New("a build needs a name and a scope for its caches")
	}
	if req.Output == nil {
		req.Output = io.Discard
	}
	req.Time = dated(req.Time)
	req.Limits = req.Limits.defaults()
	done, err := b.turns.Take(ctx, req.Cache)
	if err != nil {
		return Result{}, err
	}
	defer done()
	limited, cancel := context.WithTimeout(ctx, req.Limits.Time)
	defer cancel()
	result, err := b.build(limited, req)
	if ctx.Err() == nil && limited.Err() != nil {
		return Result{}, fault.Invalid("the build took longer than %s", req.Limits.Time).Try("make it do less, or ask for a longer limit")
	}
	return result, err
}

func (b *Builder) build(ctx context.Context, req Request) (Result, error) {
	tree, err := source.Open(req.Tree)
	if err != nil {
		return Result{}, err
	}
	defer tree.Close()
	out := step.To(req.Output, req.Limits.Output)
	language, found, err := b.detect(tree)
	if err != nil {
		return Result{}, err
	}
	out.Step("%s: %s", language.Name(), found)
	if !b.box.Contained() {
		out.Detail("containers cannot run here: this build is a process of the host, without isolation")
	}
	if r, ok := b.recall(ctx, req); ok {
		out.Detail("nothing changed since the last build of %.12s: its result is taken", req.Commit)
		return r, nil
	}
	j, clean, err := b.prepare(ctx, req, tree, out)
	if err != nil {
		return Result{}, err
	}
	defer clean()
	product, err := language.Build(ctx, j)
	if err != nil {
		return Result{}, blame(err, req.Limits)
	}
	r, err := b.finish(ctx, req, j, product)
	if err != nil {
		return Result{}, err
	}
	r.Builder, r.Detected, r.Dockerfile = language.Name(), found, language.Name() == "Dockerfile"
	b.remember(req, r)
	return r, nil
}

// detect asks the languages in their order.
func (b *Builder) detect(tree *source.Tree) (job.Language, string, error) {
	var names []string
	for _, l := range b.languages {
		found, err := l.Detect(tree)
		if err != nil {
			return nil, "", err
		}
		if found != "" {
			return l, found, nil
		}
		names = append(names, l.Name())
	}
	return nil, "", fault.Invalid("nothing here can be built: looked for %s", strings.Join(names, ", ")).
		Try("add a Dockerfile, go.mod, package.json, index.html or public/ to the root of the repository")
}

// prepare copies the tree and reads the Procfile. clean removes what the build wrote.
func (b *Builder) prepare(ctx context.Context, req Request, tree *source.Tree, out *step.Output) (*job.Job, func(), error) {
	dir, err := os.MkdirTemp(b.scratch(), "build-")
	if err != nil {
		return nil, nil, fmt.Errorf("prepare a build: %w", err)
	}
	clean := func() {
		if err := source.Remove(dir); err != nil {
			b.log.Error("a build's directory stays", "dir", dir, "err", err)
		}
	}
	j := &job.Job{
		Source: tree, App: filepath.Join(dir, "app"), Scratch: dir, Cache: b.scope(req.Cache), Env: req.Env, Time: req.Time,
		Limits: sandbox.Limits{Memory: req.Limits.Memory, CPUs: req.Limits.CPUs, Pids: req.Limits.Pids, Time: req.Limits.Time},
		Box:    b.box, Machine: b.machine, Roots: b.roots, Out: out, Scope: req.Cache, Name: tagged(req.Name, b.key(req)),
	}
	err = errors.Join(os.Chmod(dir, 0o755), os.MkdirAll(j.Cache, 0o755))
	if err == nil {
		err = tree.Copy(ctx, j.App, b.box.Owner(), source.Limit{Bytes: req.Limits.Source, Files: mostFiles})
	}
	if err == nil && tree.File("Procfile") {
		var text []byte
		if text, err = tree.Read("Procfile"); err == nil {
			j.Procfile, err = procfile.Parse(text)
		}
	}
	if err != nil {
		clean()
		return nil, nil, err
	}
	return j, clean, nil
}

// blame turns what a sandbox says into the user's words where the builder did not.
func blame(err error, l Limits) error {
	f, ok := sandbox.Failed(err)
	if _, known := fault.Of(err); known || !ok {
		return err
	}
	if f.OOM {
		return fault.Invalid("the build needed more than its %d MiB of memory", l.Memory>>20).Try("make it do less at once, or ask for a higher limit")
	}
	return fault.Invalid("the build failed: %w", err).Try("read what it printed above")
}
