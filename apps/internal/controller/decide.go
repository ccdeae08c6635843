package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/mesh"
)

// decide ends the deploy in progress when it can be ended.
func (a *actor) decide(ctx context.Context) error {
	a.mu.Lock()
	next := a.want.Next
	failed, all := a.verdict()
	a.mu.Unlock()
	switch {
	case next == 0:
		return nil
	case failed != nil:
		return a.drop(ctx, next, failed)
	case all:
		return a.promote(ctx, next)
	}
	return nil
}

// verdict looks at the instances of the next release. a.mu is held.
func (a *actor) verdict() (failed *instance, all bool) {
	next := a.want.Next
	if next == 0 || a.plans[next] == nil {
		return nil, false
	}
	for _, in := range a.instances {
		if in.release == next && in.state == formation.Crashed {
			return in, false
		}
	}
	for _, s := range a.wanted() {
		if s.release == next {
			if in := a.in(s); in == nil || in.state != formation.Up {
				return nil, false
			}
		}
	}
	return nil, true
}

// errMoved means that another server has decided already.
var errMoved = errors.New("the formation has changed meanwhile")

// promote makes the next release the one that serves. The write to etcd decides: whatever
// happens after it, the release is live.
func (a *actor) promote(ctx context.Context, version int) error {
	f, err := a.c.cfg.Store.Update(ctx, catalog.Key(a.id), func(f formation.Formation) (formation.Formation, error) {
		if f.Next != version {
			return f, errMoved
		}
		return f.Promoted(), nil
	})
	if errors.Is(err, errMoved) {
		return nil
	}
	if err != nil {
		return err
	}
	a.set(f)
	a.route()
	if err := a.c.cfg.Catalog.Settle(ctx, a.id, version, catalog.Live, ""); err != nil {
		return err
	}
	a.outcome(version, nil)
	return nil
}

// drop gives the next release up. The reason is on record before the formation forgets it.
func (a *actor) drop(ctx context.Context, version int, in *instance) error {
	lines := a.tail(ctx, in)
	if err := a.c.cfg.Catalog.Settle(ctx, a.id, version, catalog.Failed, in.reason); err != nil {
		return err
	}
	f, err := a.c.cfg.Store.Update(ctx, catalog.Key(a.id), func(f formation.Formation) (formation.Formation, error) {
		if f.Next != version {
			return f, errMoved
		}
		return f.Dropped(), nil
	})
	if err != nil && !errors.Is(err, errMoved) {
		return err
	}
	a.note(ctx, fmt.Sprintf("release v%d failed: %s", version, in.reason))
	a.set(f)
	a.outcome(version, &Failure{Version: version, Reason: in.reason, Process: in.slot.String(), Tail: lines})
	return nil
}

// outcome tells those who wait for a deploy how it ended.
func (a *actor) outcome(version int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outcomes[version] = err
	delete(a.say, version)
	for v := range a.outcomes {
		if v < version-8 {
			delete(a.outcomes, v)
		}
	}
	a.notify()
	a.poke()
}

// A Failure is why a release does not serve, with the end of the log that shows it.
type Failure struct {
	Version int
	Reason  string
	Process string
	Tail    []string
}

func (f *Failure) Error() string { return f.Reason }

// Unwrap makes it the user's to act on.
func (f *Failure) Unwrap() error {
	return fault.Invalid("%s", f.Reason).Try("correct it and push again; what served before serves on")
}

// Report is what the person who deployed reads last.
func (f *Failure) Report() string {
	var b strings.Builder
	if len(f.Tail) > 0 {
		fmt.Fprintf(&b, "       The last lines of %s:\n", f.Process)
		for _, line := range f.Tail {
			fmt.Fprintf(&b, "         | %s\n", line)
		}
	} else {
		fmt.Fprintf(&b, "       %s printed nothing.\n", f.Process)
	}
	return b.String()
}

// hosts are the names that an app answers to.
func (c *Controller) hosts(ctx context.Context, a catalog.App) ([]string, error) {
	domains, err := c.cfg.Catalog.Domains(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	hosts := []string{a.Name + "." + c.cfg.Domain}
	for _, d := range domains {
		host := d.Name
		if !strings.Contains(host, ".") {
			host += "." + c.cfg.Domain
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// route sends requests to the instances that are up and stay.
func (a *actor) route() {
	a.mu.Lock()
	app, gone := a.app, a.destroyed
	route := mesh.Route{Name: app.Name, Hosts: a.hosts}
	process := a.want.Counts.Routed()
	for _, in := range a.instances {
		if in.release == a.want.Release && in.process == process && in.state == formation.Up {
			route.Backends = append(route.Backends, mesh.Backend{ID: in.Name, Addr: in.Addr})
		}
	}
	if len(route.Backends) == 0 {
		route.Why = a.why(process)
	}
	a.mu.Unlock()
	switch {
	case app.Name == "":
	case gone:
		a.c.cfg.Mesh.Remove(app.Name)
	default:
		a.c.cfg.Mesh.Put(route)
	}
}

// why says to visitors why nothing answers. a.mu is held.
func (a *actor) why(process string) string {
	switch {
	case a.want.Release == 0 && a.want.Next != 0:
		return "its first release is starting"
	case a.want.Release == 0:
		return "nothing has been deployed yet"
	case process == "":
		return "it has no web process"
	case a.want.Counts[process] == 0:
		return "it is scaled to zero"
	}
	for _, in := range a.instances {
		if in.state == formation.Crashed {
			return "it crashed and is being started again"
		}
	}
	return "it is starting"
}
