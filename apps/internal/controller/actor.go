package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
)

const (
	keepEnded  = 6 // instances whose logs are kept after their end
	longLife   = time.Minute
	longPause  = time.Minute
	planRetry  = 5 * time.Second
	drainLimit = 30 * time.Second
)

// A slot is a place for one instance.
type slot struct {
	release int
	process string
	number  int
}

func (s slot) String() string { return fmt.Sprintf("%s.%d", s.process, s.number) }

// An instance is one that was started, or is about to be.
type instance struct {
	runner.Instance
	slot
	state   string
	reason  string   // why it crashed
	tail    []string // its last lines, when they were read before its end
	replace bool     // it shall end when another is up in its slot
	at      time.Time
}

func (in *instance) alive() bool {
	return in.state == formation.Starting || in.state == formation.Up
}

// A fall counts how often what is in a slot has crashed.
type fall struct {
	count int
	retry time.Time
}

// An actor runs one app.
type actor struct {
	c     *Controller
	id    int64
	wake  chan struct{}
	ended chan struct{} // closed when a destroyed app has nothing left
	lives sync.WaitGroup

	mu        sync.Mutex
	app       catalog.App
	hosts     []string // nil: to be read
	want      formation.Formation
	plans     map[int]*Plan
	instances []*instance
	dead      []*instance // ended, their logs kept
	falls     map[slot]fall
	destroyed bool
	outcomes  map[int]error
	say       map[int]func(string)
	changed   chan struct{}
	waiting   []chan struct{} // closed at the end of the next round
	recorded  map[string]formation.Instance
}

func newActor(c *Controller, id int64, adopted []*instance) *actor {
	a := &actor{
		c: c, id: id, wake: make(chan struct{}, 1), ended: make(chan struct{}), changed: make(chan struct{}),
		plans: map[int]*Plan{}, falls: map[slot]fall{}, outcomes: map[int]error{}, say: map[int]func(string){},
	}
	for _, in := range adopted {
		if in.Exit != nil {
			a.dead = append(a.dead, in)
		} else {
			a.instances = append(a.instances, in)
		}
	}
	return a
}

// run reconciles whenever something has changed, until ctx ends or the app is destroyed.
func (a *actor) run(ctx context.Context) {
	defer a.lives.Wait()
	a.mu.Lock()
	for _, in := range a.instances {
		a.live(ctx, in, nil)
	}
	a.mu.Unlock()
	a.recorded, _ = a.c.cfg.Store.Instances(ctx, catalog.Key(a.id))
	pause := time.NewTimer(0)
	defer pause.Stop()
	defer func() { release(a.waiters()) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-pause.C:
		}
		if !a.told() {
			continue // or what was adopted would be taken for unwanted
		}
		waiters := a.waiters()
		next, done := a.reconcile(ctx)
		release(waiters)
		if done {
			close(a.ended)
			return
		}
		pause.Stop()
		if !next.IsZero() {
			pause.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// told reports whether it is known what shall run.
func (a *actor) told() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.want.Revision != 0 || a.destroyed
}

func (a *actor) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// round returns when a round that begins after the call has ended: what was changed before is
// routed to, if it can be.
func (a *actor) round(ctx context.Context) error {
	ended := make(chan struct{})
	a.mu.Lock()
	a.waiting = append(a.waiting, ended)
	a.mu.Unlock()
	a.poke()
	select {
	case <-ended:
		return nil
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waiters takes those who wait for a round that is about to begin.
func (a *actor) waiters() []chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.waiting
	a.waiting = nil
	return list
}

func release(waiters []chan struct{}) {
	for _, ended := range waiters {
		close(ended)
	}
}

// notify tells those who wait that something has changed. a.mu is held.
func (a *actor) notify() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// set takes a formation unless a later one is known.
func (a *actor) set(f formation.Formation) {
	a.mu.Lock()
	if f.Revision > a.want.Revision {
		a.want = f
		a.notify()
	}
	a.mu.Unlock()
	a.poke()
}

func (a *actor) destroy() {
	a.mu.Lock()
	a.destroyed = true
	a.want = formation.Formation{Revision: a.want.Revision}
	a.notify()
	a.mu.Unlock()
	a.poke()
}

func (a *actor) refresh() {
	a.mu.Lock()
	a.hosts = nil
	a.app = catalog.App{}
	a.notify()
	a.mu.Unlock()
	a.poke()
}

// renew forgets what was read of releases, and that they crashed.
func (a *actor) renew() {
	a.mu.Lock()
	clear(a.plans)
	clear(a.falls)
	a.mu.Unlock()
	a.poke()
}

// expect forgets how an earlier deploy of that release ended, and where its lines went.
func (a *actor) expect(version int, say func(string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.outcomes, version)
	if say != nil {
		a.say[version] = say
	}
}

// await returns when done, which is called with a.mu held, says so.
func (a *actor) await(ctx context.Context, done func() (bool, error)) error {
	for {
		a.mu.Lock()
		ok, err := done()
		changed := a.changed
		a.mu.Unlock()
		if ok {
			return err
		}
		select {
		case <-changed:
		case <-a.ended:
			return fault.Conflict("the app was destroyed meanwhile")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settled reports whether everything wanted is up and nothing else is left, or why that
// cannot be. a.mu is held.
func (a *actor) settled(since time.Time) (bool, error) {
	for _, in := range a.instances {
		if in.state == formation.Crashed && in.at.After(since) {
			for _, old := range a.instances {
				old.replace = false
			}
			return true, fault.Unavailable("%s", in.reason).Try("see its log with: sampan logs -a %s", a.app.Name)
		}
	}
	wanted := a.wanted()
	for _, s := range wanted {
		if in := a.in(s); in == nil || in.state != formation.Up {
			return false, nil
		}
	}
	for _, in := range a.instances {
		if in.replace || (in.alive() && !slices.Contains(wanted, in.slot)) {
			return false, nil
		}
	}
	return true, nil
}

// replace marks instances that shall give way to new ones.
func (a *actor) replace(process, name string) map[slot]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	slots := map[slot]bool{}
	for _, in := range a.instances {
		if in.alive() && (process == "" || in.process == process) && (name == "" || in.Name == name) {
			in.replace = true
			slots[in.slot] = true
		}
	}
	a.poke()
	return slots
}

// wanted lists the slots to be filled, in the order in which they are. a.mu is held.
func (a *actor) wanted() []slot {
	var list []slot
	add := func(release int, counts formation.Counts) {
		plan := a.plans[release]
		if plan == nil {
			return
		}
		for _, process := range slices.Sorted(maps.Keys(counts)) {
			if _, ok := plan.Processes[process]; !ok {
				continue
			}
			for n := range counts[process] {
				list = append(list, slot{release, process, n + 1})
			}
		}
	}
	add(a.want.Release, a.want.Counts)
	if a.want.Next != 0 {
		add(a.want.Next, a.want.NextCounts)
	}
	return list
}

// in finds the instance that fills a slot: not one that is to be replaced. a.mu is held.
func (a *actor) in(s slot) *instance {
	for _, in := range a.instances {
		if in.slot == s && in.alive() && !in.replace {
			return in
		}
	}
	return nil
}

// reconcile does one round. next is when to look again by itself; done is the end of a
// destroyed app.
func (a *actor) reconcile(ctx context.Context) (next time.Time, done bool) {
	if err := a.load(ctx); err != nil {
		if ctx.Err() == nil {
			a.c.cfg.Log.Error("could not read what an app runs", "app", a.id, "err", err)
		}
		return time.Now().Add(planRetry), false
	}
	a.mu.Lock()
	next = a.fill(ctx)
	leaving := a.surplus()
	a.mu.Unlock()
	if err := a.decide(ctx); err != nil && ctx.Err() == nil {
		a.c.cfg.Log.Error("could not decide a deploy", "app", a.id, "err", err)
		return time.Now().Add(planRetry), false
	}
	a.route()
	for _, in := range leaving {
		a.retire(ctx, in)
	}
	a.record(ctx)
	a.prune(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	return next, a.destroyed && len(a.instances) == 0 && len(a.dead) == 0
}

// load reads the app and the plans of its releases as far as they are not known.
func (a *actor) load(ctx context.Context) error {
	a.mu.Lock()
	app, hosts, want := a.app, a.hosts, a.want
	missing := []int{}
	for _, version := range []int{want.Release, want.Next} {
		if version != 0 && a.plans[version] == nil {
			missing = append(missing, version)
		}
	}
	gone := a.destroyed
	a.mu.Unlock()
	if gone {
		return nil
	}
	var err error
	if app.ID == 0 {
		if app, err = a.c.cfg.Catalog.AppByID(ctx, a.id); err != nil {
			return err
		}
	}
	if hosts == nil {
		if hosts, err = a.c.hosts(ctx, app); err != nil {
			return err
		}
	}
	plans := map[int]*Plan{}
	for _, version := range missing {
		if plans[version], err = a.c.Plan(ctx, app, version); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.app, a.hosts = app, hosts
	maps.Copy(a.plans, plans)
	if len(plans) > 0 {
		a.notify() // an adopted instance waits for its plan
	}
	maps.DeleteFunc(a.plans, func(version int, _ *Plan) bool {
		return version != a.want.Release && version != a.want.Next && !slices.Contains(missing, version)
	})
	maps.DeleteFunc(a.falls, func(s slot, _ fall) bool { return s.release != a.want.Release && s.release != a.want.Next })
	return nil
}

// fill starts what is missing, and says when it may start what has crashed. a.mu is held.
func (a *actor) fill(ctx context.Context) (next time.Time) {
	for _, s := range a.wanted() {
		if a.in(s) != nil {
			continue
		}
		f := a.falls[s]
		if s.release == a.want.Next && f.count > 0 {
			continue // a deploy gets one try
		}
		if wait := time.Until(f.retry); wait > 0 {
			if next.IsZero() || f.retry.Before(next) {
				next = f.retry
			}
			continue
		}
		a.instances = slices.DeleteFunc(a.instances, func(in *instance) bool { return in.slot == s && in.state == formation.Crashed })
		plan := a.plans[s.release]
		in := &instance{slot: s, state: formation.Starting, at: time.Now()}
		in.Name = instanceName(a.app.Name, s.process)
		a.instances = append(a.instances, in)
		a.live(ctx, in, plan)
	}
	return next
}

// surplus moves on what nobody wants any more, and lists what is to be ended. a.mu is held.
func (a *actor) surplus() []*instance {
	wanted := a.wanted()
	var leaving []*instance
	for _, in := range a.instances {
		replaced := in.replace && a.in(in.slot) != nil && a.in(in.slot).state == formation.Up
		if in.alive() && in.ID != "" && (replaced || !slices.Contains(wanted, in.slot)) {
			if a.known(in.release) || a.destroyed {
				in.state = formation.Stopping
				leaving = append(leaving, in)
			}
		}
	}
	a.instances = slices.DeleteFunc(a.instances, func(in *instance) bool {
		return in.state == formation.Crashed && (!slices.Contains(wanted, in.slot) || a.in(in.slot) != nil)
	})
	if len(leaving) > 0 {
		a.notify()
	}
	return leaving
}

// known is false for a release whose plan ought to be there but is not read yet. a.mu is held.
func (a *actor) known(release int) bool {
	return (release != a.want.Release && release != a.want.Next) || a.plans[release] != nil
}

// snapshot lists the instances, newest release first.
func (a *actor) snapshot() []formation.Instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list(a.instances)
}

func (a *actor) kept() ([]formation.Instance, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list(slices.Concat(a.dead, a.instances)), a.changed
}

func (a *actor) list(from []*instance) []formation.Instance {
	list := make([]formation.Instance, 0, len(from))
	for _, in := range from {
		seen := formation.Instance{
			Name: in.Name, ID: in.ID, Process: in.process, Number: in.number, Release: in.release, State: in.state,
			Addr: in.Addr, Started: in.Started, Exit: in.Exit, Reason: in.reason,
		}
		if in.state == formation.Crashed {
			seen.Retry = a.falls[in.slot].retry
		}
		list = append(list, seen)
	}
	slices.SortStableFunc(list, func(x, y formation.Instance) int {
		return cmp.Or(cmp.Compare(y.Release, x.Release), cmp.Compare(x.Process, y.Process), cmp.Compare(x.Number, y.Number))
	})
	return list
}

// record writes to etcd what the instances are now.
func (a *actor) record(ctx context.Context) {
	is := map[string]formation.Instance{}
	a.mu.Lock()
	gone := a.destroyed
	a.mu.Unlock()
	if gone {
		return
	}
	for _, in := range a.snapshot() {
		is[in.Name] = in
	}
	if err := a.c.cfg.Store.Record(ctx, catalog.Key(a.id), a.recorded, is); err != nil {
		if ctx.Err() == nil {
			a.c.cfg.Log.Warn("could not record instances", "app", a.id, "err", err)
		}
		return
	}
	a.recorded = is
}

// prune removes ended instances beyond those whose logs are kept.
func (a *actor) prune(ctx context.Context) {
	a.mu.Lock()
	keep := keepEnded
	if a.destroyed {
		keep = 0
	}
	var drop []*instance
	if n := len(a.dead) - keep; n > 0 {
		drop = slices.Clone(a.dead[:n])
		a.dead = slices.Delete(a.dead, 0, n)
	}
	a.mu.Unlock()
	for _, in := range drop {
		if err := a.c.cfg.Runner.Remove(ctx, in.ID); err != nil && ctx.Err() == nil {
			a.c.cfg.Log.Warn("could not remove an ended instance", "instance", in.Name, "err", err)
		}
	}
}
