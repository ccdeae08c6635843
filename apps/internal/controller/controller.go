// Package controller makes what runs of each app equal to what its formation says.
//
// Each app has one actor that reconciles: for every slot ("web.1 of v3") that the formation
// wants it starts an instance, those that nobody wants it drains and stops, and a crashed one
// it starts again after a pause that doubles. A deploy is a formation with a next release:
// its instances start beside those that serve; when all are ready the formation is promoted,
// which decides the deploy, then requests go to the new ones and the old ones end; when one
// fails the next release is dropped and the old one never noticed.
//
// Nothing polls: etcd's watch, the ends of instances and timers of pauses wake an actor. The
// state that counts is in etcd and with the runner, so after a crash the controller adopts the
// instances that run, routes to those that were up at once, and goes on. A Controller is safe
// for concurrent use.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/mesh"
)

// Config is what a Controller stands on.
type Config struct {
	Catalog *catalog.Catalog
	Store   *formation.Store
	Runner  runner.Runner
	Mesh    *mesh.Mesh
	Domain  string
	Log     *slog.Logger
}

// A Controller runs all apps.
type Controller struct {
	cfg   Config
	ready chan struct{} // closed when all apps that exist are known

	mu      sync.Mutex
	apps    map[string]*actor
	adopted map[string][]*instance // found at the start, until their app is known
	group   *errgroup.Group        // nil unless running
	ctx     context.Context        // of Run; actors that appear later live as long
}

// New makes a Controller that does nothing before Run.
func New(cfg Config) *Controller {
	return &Controller{cfg: cfg, ready: make(chan struct{}), apps: map[string]*actor{}}
}

// Run adopts what runs and reconciles until ctx ends. Instances live on.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.adopt(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	c.mu.Lock()
	c.group, c.ctx = group, ctx
	c.mu.Unlock()
	group.Go(func() error { return c.watch(ctx) })
	err := group.Wait()
	if ctx.Err() != nil && err == nil {
		return nil
	}
	return err
}

// Ready is closed when every app has been found and its route set.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// adopt lists what an earlier server started.
func (c *Controller) adopt(ctx context.Context) error {
	found, err := c.cfg.Runner.Instances(ctx)
	if err != nil {
		return fmt.Errorf("list running instances: %w", err)
	}
	seen := map[string]map[string]formation.Instance{}
	adopted := map[string][]*instance{}
	for _, r := range found {
		if seen[r.App] == nil {
			if seen[r.App], err = c.cfg.Store.Instances(ctx, r.App); err != nil {
				return err
			}
		}
		in := &instance{Instance: r, slot: slot{r.Release, r.Process, r.Number}, state: formation.Starting}
		if seen[r.App][r.Name].State == formation.Up {
			in.state = formation.Up
		}
		if r.Exit != nil {
			in.state = formation.Crashed
		}
		adopted[r.App] = append(adopted[r.App], in)
	}
	c.mu.Lock()
	c.adopted = adopted
	c.mu.Unlock()
	return nil
}

// watch hands every formation to its actor; it begins again when etcd loses it.
func (c *Controller) watch(ctx context.Context) error {
	for {
		err := c.cfg.Store.Watch(ctx, c.set, c.forget, func() { c.listed(ctx) })
		if ctx.Err() != nil {
			return nil
		}
		c.cfg.Log.Warn("watching formations again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// listed runs when every formation has been seen: what belongs to none is left over from an
// app that is gone.
func (c *Controller) listed(ctx context.Context) {
	c.mu.Lock()
	orphans, actors := c.adopted, slices.Collect(maps.Values(c.apps))
	c.adopted = nil
	c.mu.Unlock()
	for _, a := range actors {
		if a.round(ctx) != nil {
			return
		}
	}
	for _, list := range orphans {
		for _, in := range list {
			c.cfg.Log.Info("removing an instance of no app", "instance", in.Name)
			if err := c.cfg.Runner.Remove(ctx, in.ID); err != nil {
				c.cfg.Log.Warn("could not remove an instance", "instance", in.Name, "err", err)
			}
		}
	}
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
}

// set is called for each formation that is new.
func (c *Controller) set(app string, f formation.Formation) {
	if a := c.actor(app); a != nil {
		a.set(f)
	}
}

// actor finds an app's actor, or starts it. It is nil when the controller does not run.
func (c *Controller) actor(app string) *actor {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.apps[app]; a != nil {
		return a
	}
	id, err := strconv.ParseInt(app, 10, 64)
	if err != nil || c.group == nil || c.ctx.Err() != nil {
		return nil
	}
	a := newActor(c, id, c.adopted[app])
	delete(c.adopted, app)
	c.apps[app] = a
	ctx := c.ctx
	c.group.Go(func() error {
		a.run(ctx)
		return nil
	})
	return a
}

func (c *Controller) forget(app string) {
	c.mu.Lock()
	a := c.apps[app]
	c.mu.Unlock()
	if a != nil {
		a.destroy()
	}
}

// running is the actor of an app that must be there.
func (c *Controller) running(ctx context.Context, a catalog.App) (*actor, error) {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if act := c.actor(a.Key()); act != nil {
		return act, nil
	}
	return nil, fault.Unavailable("the server is stopping").Try("repeat this when it is back")
}

// Add makes an empty formation for a new app. When it returns the app's host answers with
// what to do.
func (c *Controller) Add(ctx context.Context, a catalog.App) error {
	act, err := c.change(ctx, a, func(f formation.Formation) (formation.Formation, error) { return f, nil })
	if err != nil {
		return err
	}
	return act.round(ctx)
}

// change updates a formation and tells the actor at once: its watch would only later.
func (c *Controller) change(ctx context.Context, a catalog.App, fn func(formation.Formation) (formation.Formation, error)) (*actor, error) {
	act, err := c.running(ctx, a)
	if err != nil {
		return nil, err
	}
	f, err := c.cfg.Store.Update(ctx, a.Key(), fn)
	if err != nil {
		return nil, err
	}
	act.set(f)
	return act, nil
}

// Formation is what shall run of an app.
func (c *Controller) Formation(ctx context.Context, a catalog.App) (formation.Formation, error) {
	return c.cfg.Store.Load(ctx, a.Key())
}

// Deploy starts a release beside the one that serves and returns when it serves, or with
// the reason why it does not. say gets the lines of progress. When ctx ends the deploy goes on.
func (c *Controller) Deploy(ctx context.Context, a catalog.App, version int, counts formation.Counts, say func(string)) error {
	act, err := c.running(ctx, a)
	if err != nil {
		return err
	}
	f, err := c.cfg.Store.Update(ctx, a.Key(), func(f formation.Formation) (formation.Formation, error) {
		if f.Next != 0 {
			return f, fault.Conflict("Deployment for %s is already in progress", a.Name).Try("repeat this when it has ended")
		}
		if f.Release >= version {
			return f, fault.Conflict("release v%d of %s has been replaced already", version, a.Name)
		}
		f.Next, f.NextCounts = version, counts
		return f, nil
	})
	if err != nil {
		return err
	}
	act.expect(version, say)
	act.set(f)
	return act.await(ctx, func() (bool, error) {
		err, ok := act.outcomes[version]
		return ok, err
	})
}

// Finish waits for a deploy that an earlier server began.
func (c *Controller) Finish(ctx context.Context, a catalog.App, version int) error {
	act, err := c.running(ctx, a)
	if err != nil {
		return err
	}
	return act.await(ctx, func() (bool, error) {
		err, ok := act.outcomes[version]
		return ok || act.want.Next != version, err
	})
}

// Drop gives up a next release.
func (c *Controller) Drop(ctx context.Context, a catalog.App, version int) error {
	_, err := c.change(ctx, a, func(f formation.Formation) (formation.Formation, error) {
		if f.Next != version {
			return f, nil
		}
		return f.Dropped(), nil
	})
	return err
}

// Scale changes how many instances run, and returns when they do.
func (c *Controller) Scale(ctx context.Context, a catalog.App, counts formation.Counts) error {
	started := time.Now()
	act, err := c.change(ctx, a, func(f formation.Formation) (formation.Formation, error) {
		if f.Next != 0 {
			return f, fault.Conflict("Deployment for %s is already in progress", a.Name).Try("repeat this when it has ended")
		}
		merged := formation.Counts{}
		for _, from := range []formation.Counts{f.Counts, counts} {
			for process, n := range from {
				merged[process] = n
			}
		}
		f.Counts = merged
		return f, nil
	})
	if err != nil {
		return err
	}
	return act.await(ctx, func() (bool, error) { return act.settled(started) })
}

// Restart replaces instances, new ones first; empty process and name mean all. It returns
// those that replaced them.
func (c *Controller) Restart(ctx context.Context, a catalog.App, process, name string) ([]formation.Instance, error) {
	act, err := c.running(ctx, a)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	slots := act.replace(process, name)
	if len(slots) == 0 {
		return nil, nil
	}
	if err := act.await(ctx, func() (bool, error) { return act.settled(started) }); err != nil {
		return nil, err
	}
	var fresh []formation.Instance
	for _, in := range act.snapshot() {
		if slots[slot{in.Release, in.Process, in.Number}] {
			fresh = append(fresh, in)
		}
	}
	return fresh, nil
}

// Destroy ends all instances of an app, forgets them and its route.
func (c *Controller) Destroy(ctx context.Context, a catalog.App) error {
	act, err := c.running(ctx, a)
	if err != nil {
		return err
	}
	if err := c.cfg.Store.Delete(ctx, a.Key()); err != nil {
		return err
	}
	act.destroy()
	select {
	case <-act.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.mu.Lock()
	delete(c.apps, a.Key())
	c.mu.Unlock()
	return c.cfg.Store.Delete(ctx, a.Key())
}

// Refresh sets the route of an app anew, after its domains have changed, and returns when
// they answer.
func (c *Controller) Refresh(ctx context.Context, a catalog.App) error {
	act, err := c.running(ctx, a)
	if err != nil {
		return err
	}
	act.refresh()
	return act.round(ctx)
}

// Renew reads anew what the releases of an app run, and starts at once what could not be.
func (c *Controller) Renew(ctx context.Context, a catalog.App) error {
	act, err := c.running(ctx, a)
	if err != nil {
		return err
	}
	act.renew()
	return nil
}

// Instances is what runs of an app now, and what crashed and will be started again.
func (c *Controller) Instances(a catalog.App) []formation.Instance {
	c.mu.Lock()
	act := c.apps[a.Key()]
	c.mu.Unlock()
	if act == nil {
		return nil
	}
	return act.snapshot()
}

// Kept lists all instances of an app whose logs can still be read, also ended ones, and a
// channel that is closed when that changes.
func (c *Controller) Kept(a catalog.App) ([]formation.Instance, <-chan struct{}) {
	c.mu.Lock()
	act := c.apps[a.Key()]
	c.mu.Unlock()
	if act == nil {
		never := make(chan struct{})
		return nil, never
	}
	return act.kept()
}

// Changed is closed when anything about an app's instances changes.
func (c *Controller) Changed(a catalog.App) <-chan struct{} {
	_, changed := c.Kept(a)
	return changed
}
