// Package pipeline turns pushes into builds, builds into releases, and releases into deploys.
//
// Each app has one line: its builds happen one after the other, and of those that wait only
// the newest commit is built, for the others would be replaced at once. Releases and deploys
// of an app exclude each other, whatever asked for them: a push waits, a change by hand is
// refused while another is in progress.
//
// What was asked for is on record before anybody is told, so after a crash the pipeline builds
// what has no result yet and finishes or fails each release that is pending. Work does not end
// with the person who asked for it. A Pipeline is safe for concurrent use.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/controller"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/apps/internal/transcript"
	"sampan.dev/sampan/build"
	"sampan.dev/sampan/internal/fault"
)

// Config is what a Pipeline stands on.
type Config struct {
	Catalog    *catalog.Catalog
	Controller *controller.Controller
	Runner     runner.Runner
	Builder    *build.Builder
	Shelf      *transcript.Shelf
	Dir        string // for trees while they are built
	Isolated   bool
	Log        *slog.Logger
	// Checkout writes the files of a build's commit and tells when it was committed; after a
	// crash it is all there is.
	Checkout func(ctx context.Context, a catalog.App, commit, dir string) (time.Time, error)
	URL      func(host string) string
	Host     func(a catalog.App) string
}

// A Pipeline has a line for each app.
type Pipeline struct {
	cfg Config

	admission sync.Mutex // before mu

	mu    sync.Mutex
	lines map[int64]*line
	jobs  map[int64]*job // of builds that have not ended
	group *errgroup.Group
	ctx   context.Context // of Run: what all work lasts as long as
}

// A line is what waits and what happens for one app.
type line struct {
	waiting []*job
	busy    bool
	abort   context.CancelCauseFunc // of the job that is worked on
	deploy  chan struct{}           // holds one token: who has it may make a release
}

// A job is one build on its way.
type job struct {
	app       catalog.App
	build     catalog.Build
	tree      string    // checked out already; empty: not yet
	committed time.Time // known with the tree
	out       *transcript.Transcript
	done      chan struct{}
	release   catalog.Release
	err       error
}

// New makes a Pipeline; work begins with Run.
func New(cfg Config) (*Pipeline, error) {
	if err := os.RemoveAll(cfg.Dir); err != nil { // of builds that a crash ended
		return nil, fmt.Errorf("clean the directory of builds: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of builds: %w", err)
	}
	return &Pipeline{cfg: cfg, lines: map[int64]*line{}, jobs: map[int64]*job{}}, nil
}

// Run resumes what a crash interrupted and works until ctx ends.
func (p *Pipeline) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	p.mu.Lock()
	p.group, p.ctx = group, ctx
	p.mu.Unlock()
	group.Go(func() error { return p.resume(ctx) })
	group.Go(func() error { <-ctx.Done(); return nil })
	err := group.Wait()
	p.mu.Lock()
	p.group = nil
	p.mu.Unlock()
	return err
}

// start runs fn for as long as the server, not the caller, lives.
func (p *Pipeline) start(fn func(ctx context.Context)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.group == nil || p.ctx.Err() != nil {
		return fault.Unavailable("the server is starting or stopping").Try("repeat this in a moment")
	}
	ctx := p.ctx
	p.group.Go(func() error { fn(ctx); return nil })
	return nil
}

// line finds an app's line. p.mu is held.
func (p *Pipeline) line(app int64) *line {
	l := p.lines[app]
	if l == nil {
		l = &line{deploy: make(chan struct{}, 1)}
		l.deploy <- struct{}{}
		p.lines[app] = l
	}
	return l
}

// Forget drops the line of a destroyed app.
func (p *Pipeline) Forget(app int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lines, app)
}

// Abort ends the builds of an app that is being destroyed.
func (p *Pipeline) Abort(app int64) {
	destroyed := fault.Conflict("the app was destroyed meanwhile")
	p.mu.Lock()
	var waiting []*job
	if l := p.lines[app]; l != nil {
		waiting, l.waiting = l.waiting, nil
		if l.abort != nil {
			l.abort(destroyed)
		}
	}
	p.mu.Unlock()
	for _, j := range waiting {
		p.finish(j, catalog.Release{}, destroyed)
	}
}

// Request asks for a build.
type Request struct {
	Author string
	Cause  string // unique for what asks: asking again joins what is there
	SHA    string
	Branch string
	// Checkout writes the tree at once, for commits that will not be found later.
	Checkout func(ctx context.Context, dir string) (time.Time, error)
}

// A Ticket follows one build to its end.
type Ticket struct {
	Build catalog.Build
	p     *Pipeline
	job   *job
}

// Submit records the build, so that nothing but its result can end it, and puts it in line.
func (p *Pipeline) Submit(ctx context.Context, a catalog.App, r Request) (*Ticket, error) {
	j, b, fresh, err := p.admit(ctx, a, r)
	if err != nil {
		return nil, err
	}
	t := &Ticket{Build: b, p: p, job: j}
	if !fresh {
		return t, nil
	}
	if r.Checkout != nil {
		if j.tree, err = p.tree(j.build); err == nil {
			j.committed, err = r.Checkout(ctx, j.tree)
		}
	}
	if err == nil {
		err = p.enqueue(j)
	}
	if err != nil {
		ctx = context.WithoutCancel(ctx)
		err = errors.Join(err, p.cfg.Catalog.SetBuild(ctx, p.cfg.Catalog.DB(), j.build.ID, catalog.Broken, reason(err), j.build.Result))
		p.finish(j, catalog.Release{}, err)
		return nil, err
	}
	return t, nil
}

// admit finds the job of a cause, or makes it. One at a time: who comes second, for an event
// and a client tell of the same push, finds a job whose transcript can be followed.
func (p *Pipeline) admit(ctx context.Context, a catalog.App, r Request) (_ *job, b catalog.Build, fresh bool, err error) {
	p.admission.Lock()
	defer p.admission.Unlock()
	b, fresh, err = p.cfg.Catalog.Ask(ctx, catalog.Build{App: a.ID, Author: r.Author, Cause: r.Cause, SHA: r.SHA, Branch: r.Branch})
	if err != nil {
		return nil, b, false, err
	}
	if !fresh {
		return p.find(a, b), b, false, nil
	}
	j, err := p.newJob(a, b)
	return j, b, true, err
}

// find is the job of a build, or a finished one that stands for it.
func (p *Pipeline) find(a catalog.App, b catalog.Build) *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j := p.jobs[b.ID]; j != nil {
		return j
	}
	j := &job{app: a, build: b, done: make(chan struct{})}
	if b.State == catalog.Broken || b.State == catalog.Superseded {
		j.err = fault.Invalid("%s", b.Reason)
	}
	close(j.done)
	return j
}

func (p *Pipeline) newJob(a catalog.App, b catalog.Build) (*job, error) {
	out, err := p.cfg.Shelf.Begin(b.UUID)
	if err != nil {
		return nil, err
	}
	j := &job{app: a, build: b, out: out, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs[b.ID] = j
	return j, nil
}

func (p *Pipeline) tree(b catalog.Build) (string, error) {
	dir := filepath.Join(p.cfg.Dir, b.UUID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a directory for the tree: %w", err)
	}
	return dir, nil
}

// enqueue puts a job in its app's line, and starts the line.
func (p *Pipeline) enqueue(j *job) error {
	p.mu.Lock()
	l := p.line(j.app.ID)
	l.waiting = append(l.waiting, j)
	begin := !l.busy
	l.busy = true
	p.mu.Unlock()
	if !begin {
		j.out.Line("-----> Waiting for the build before this one")
		return nil
	}
	err := p.start(func(ctx context.Context) { p.work(ctx, l) })
	if err != nil {
		p.mu.Lock()
		l.busy, l.waiting = false, nil
		p.mu.Unlock()
	}
	return err
}

// Follow copies what the build prints to w and returns the release it became, or why not.
func (t *Ticket) Follow(ctx context.Context, w io.Writer) (catalog.Release, error) {
	if err := t.p.cfg.Shelf.Follow(ctx, t.Build.UUID, w, nil); err != nil {
		return catalog.Release{}, err
	}
	select {
	case <-t.job.done:
		return t.job.release, t.job.err
	case <-ctx.Done():
		return catalog.Release{}, context.Cause(ctx)
	}
}

// work builds what waits in a line, the newest commit first and the others not at all.
func (p *Pipeline) work(ctx context.Context, l *line) {
	for {
		p.mu.Lock()
		if len(l.waiting) == 0 || ctx.Err() != nil {
			l.busy = false
			p.mu.Unlock()
			return
		}
		j := l.waiting[len(l.waiting)-1]
		older := l.waiting[:len(l.waiting)-1]
		l.waiting = nil
		work, cancel := context.WithCancelCause(ctx)
		l.abort = cancel
		p.mu.Unlock()
		for _, o := range older {
			p.supersede(ctx, o, j)
		}
		p.do(work, j)
		cancel(nil)
	}
}

func (p *Pipeline) supersede(ctx context.Context, old, by *job) {
	reason := fmt.Sprintf("%.7s was pushed after it and is built instead", by.build.SHA)
	old.out.Line(" !     Not built: %s", reason)
	err := p.cfg.Catalog.SetBuild(ctx, p.cfg.Catalog.DB(), old.build.ID, catalog.Superseded, reason, old.build.Result)
	p.finish(old, catalog.Release{}, errors.Join(fault.Conflict("%s", reason), err))
}

func (p *Pipeline) finish(j *job, r catalog.Release, err error) {
	j.release, j.err = r, err
	if j.tree != "" {
		if err := os.RemoveAll(j.tree); err != nil {
			p.cfg.Log.Warn("could not remove the tree of a build", "build", j.build.UUID, "err", err)
		}
	}
	p.mu.Lock()
	delete(p.jobs, j.build.ID)
	p.mu.Unlock()
	close(j.done)
	if err := j.out.Close(); err != nil {
		p.cfg.Log.Warn("could not close a transcript", "build", j.build.UUID, "err", err)
	}
}

// Transcript copies what a build printed, and prints while it lasts, to w.
func (p *Pipeline) Transcript(ctx context.Context, b catalog.Build, w io.Writer, flush func()) error {
	return p.cfg.Shelf.Follow(ctx, b.UUID, w, flush)
}

// Counts are how many instances of each type a build starts with: those of before, and for
// a new app one that takes requests.
func Counts(b catalog.Build, before catalog.Build, now formation.Counts) formation.Counts {
	counts := formation.Counts{}
	for process, n := range now {
		counts[process] = n
	}
	if kind(b) != kind(before) && before.ID != 0 {
		delete(counts, "web")
		delete(counts, "cmd")
	}
	if _, web := b.Result.Processes["web"]; web || len(b.Result.Processes) == 0 {
		main := "web"
		if !web {
			main = formation.Main(b.Result.Dockerfile, b.SHA)
		}
		if _, ok := counts[main]; !ok {
			counts[main] = 1
		}
	}
	for process := range b.Result.Processes {
		if _, ok := counts[process]; !ok {
			counts[process] = 0
		}
	}
	return counts
}

func kind(b catalog.Build) string {
	switch {
	case b.Result.Dockerfile:
		return "dockerfile"
	case b.SHA != "":
		return "buildpack"
	}
	return "image"
}

// Discard removes what a build printed.
func (p *Pipeline) Discard(b catalog.Build) error { return p.cfg.Shelf.Remove(b.UUID) }
