// Package logs makes one log of what an app's instances print and what happened to the app.
//
// The lines themselves stay where they are: with the runner, as long as it keeps an instance,
// and in the catalog. Order is by time.
package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/controller"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/runner"
)

// A Line is one line of an app's log.
type Line struct {
	Time     time.Time
	Process  string // "" for what Sampan says
	Number   int
	Release  int
	Instance string
	Stream   string
	Level    string // of what Sampan says
	Text     string
}

// Source is who wrote the line: "web.1", or "controller".
func (l Line) Source() string {
	if l.Process == "" {
		return "controller"
	}
	return fmt.Sprintf("%s.%d", l.Process, l.Number)
}

// Format is the line as the controller API shows it.
func (l Line) Format(app string) string {
	at := l.Time.UTC().Format("2006-01-02T15:04:05Z")
	if l.Process == "" {
		return at + " deis[controller]: " + l.Level + " " + l.Text
	}
	return at + " " + app + "[" + l.Source() + "]: " + l.Text
}

// Options choose lines.
type Options struct {
	Tail     int // the last n
	Follow   bool
	Process  string // only this type
	Instance string // only this instance, by name
	Release  int
}

func (o Options) takes(in formation.Instance) bool {
	return (o.Process == "" || in.Process == o.Process) && (o.Instance == "" || in.Name == o.Instance) &&
		(o.Release == 0 || in.Release == o.Release) && in.ID != ""
}

// takesEvents is false when only some process is asked for.
func (o Options) takesEvents() bool { return o.Process == "" && o.Instance == "" && o.Release == 0 }

// A Reader reads the logs of all apps.
type Reader struct {
	Catalog    *catalog.Catalog
	Controller *controller.Controller
	Runner     runner.Runner
}

// A reading is one person's.
type reading struct {
	*Reader
	app  catalog.App
	opts Options
	each func(Line) error

	mu    sync.Mutex
	seen  map[string]*mark // by instance ID
	event int64
	err   error // of each: the person is gone
}

// A mark is how far an instance's log has been shown: n lines of the last moment.
type mark struct {
	at time.Time
	n  int
}

// Read calls each for the lines asked for, and with Follow for those that come until ctx ends
// or each fails.
func (r *Reader) Read(ctx context.Context, a catalog.App, o Options, each func(Line) error) error {
	rd := &reading{Reader: r, app: a, opts: o, each: each, seen: map[string]*mark{}}
	instances, changed := r.Controller.Kept(a)
	if err := rd.tail(ctx, instances); err != nil || !o.Follow {
		return err
	}
	return rd.follow(ctx, instances, changed)
}

// tail shows the last lines of all instances together.
func (rd *reading) tail(ctx context.Context, instances []formation.Instance) error {
	var all []Line
	for _, in := range instances {
		if !rd.opts.takes(in) {
			continue
		}
		m := &mark{}
		rd.seen[in.ID] = m
		err := rd.Runner.Logs(ctx, in.ID, runner.LogOptions{Tail: max(rd.opts.Tail, 1)}, func(l runner.Line) error {
			m.count(l.Time)
			all = append(all, line(in, l))
			return nil
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
		all = newest(all, rd.opts.Tail)
	}
	events, err := rd.events(ctx, max(rd.opts.Tail, 1))
	if err != nil {
		return err
	}
	for _, l := range newest(append(all, events...), rd.opts.Tail) {
		if err := rd.each(l); err != nil {
			return err
		}
	}
	return nil
}

// maxTail bounds the text that is held in memory to be put in order: every instance may have
// thousands of long lines.
const maxTail = 16 << 20

// newest puts lines in order and keeps the last n of them, or fewer.
func newest(lines []Line, n int) []Line {
	slices.SortStableFunc(lines, func(x, y Line) int { return x.Time.Compare(y.Time) })
	from, size := len(lines), 0
	for from > 0 && len(lines)-from < n && size < maxTail {
		from--
		size += len(lines[from].Text)
	}
	return slices.Delete(lines, 0, from)
}

func (m *mark) count(at time.Time) {
	if !at.Equal(m.at) {
		m.at, m.n = at, 0
	}
	m.n++
}

func line(in formation.Instance, l runner.Line) Line {
	return Line{Time: l.Time, Process: in.Process, Number: in.Number, Release: in.Release, Instance: in.Name, Stream: l.Stream, Text: strings.ToValidUTF8(l.Text, "\uFFFD")}
}

func (rd *reading) events(ctx context.Context, limit int) ([]Line, error) {
	if !rd.opts.takesEvents() {
		return nil, nil
	}
	events, err := rd.Catalog.Events(ctx, rd.app.ID, rd.event, limit)
	var lines []Line
	for _, e := range events {
		rd.event = e.ID
		lines = append(lines, Line{Time: e.At, Level: e.Level, Text: e.Text, Stream: "controller"})
	}
	return lines, err
}

// follow shows each line as it comes, of instances that are and that will be.
func (rd *reading) follow(ctx context.Context, instances []formation.Instance, changed <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	following := map[string]bool{}
	for {
		for _, in := range instances {
			if following[in.ID] || !rd.opts.takes(in) {
				continue
			}
			following[in.ID] = true
			followers.Go(func() {
				if err := rd.instance(ctx, in); err != nil {
					cancel()
				}
			})
		}
		events, err := rd.events(ctx, 100)
		for _, l := range events {
			if err == nil {
				err = rd.show(l)
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			rd.mu.Lock()
			defer rd.mu.Unlock()
			return rd.err
		}
		instances, changed = rd.Controller.Kept(rd.app)
	}
}

// instance shows one instance's lines after those that were shown already. It fails only
// when the person is gone.
func (rd *reading) instance(ctx context.Context, in formation.Instance) error {
	rd.mu.Lock()
	from, again := mark{}, 0
	if m := rd.seen[in.ID]; m != nil {
		from = *m
	}
	rd.mu.Unlock()
	gone := false
	err := rd.Runner.Logs(ctx, in.ID, runner.LogOptions{Follow: true, Since: from.at}, func(l runner.Line) error {
		if from.n > 0 && l.Time.Equal(from.at) && again < from.n {
			again++
			return nil
		}
		err := rd.show(line(in, l))
		gone = err != nil
		return err
	})
	if gone {
		return err
	}
	return nil
}

func (rd *reading) show(l Line) error {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.err == nil {
		rd.err = rd.each(l)
	}
	return rd.err
}
