package controller

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/probe"
	"sampan.dev/sampan/apps/internal/runner"
)

// A process that takes no requests is taken for started when it has lived this long: there
// is nothing to ask it.
const settleTime = 400 * time.Millisecond

// instanceName has the pattern by which clients of the controller API find the type in it.
func instanceName(app, process string) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	number, _ := rand.Int(rand.Reader, big.NewInt(900_000_000))
	suffix := make([]byte, 5)
	rand.Read(suffix)
	for i, b := range suffix {
		suffix[i] = letters[int(b)%len(letters)]
	}
	return fmt.Sprintf("%s-%s-%d-%s", app, process, number.Int64()+100_000_000, suffix)
}

// live starts an instance, or takes over one that runs when it has an ID, and sees it through
// to its end. a.mu is held.
func (a *actor) live(ctx context.Context, in *instance, plan *Plan) {
	a.lives.Go(func() {
		if in.ID == "" {
			started, err := a.c.cfg.Runner.Start(ctx, plan.spec(in.Name, in.slot))
			if err != nil {
				if ctx.Err() == nil {
					a.crashed(ctx, in, fmt.Sprintf("%s could not be started: %v", in.slot, err), nil)
				}
				return
			}
			a.mu.Lock()
			in.Instance = started
			a.notify()
			a.mu.Unlock()
			a.poke() // it may be unwanted by now
		}
		a.follow(ctx, in)
	})
}

// follow waits until the instance is ready, then until it ends.
func (a *actor) follow(ctx context.Context, in *instance) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := make(chan runner.Exit, 1)
	a.lives.Go(func() {
		exit, err := a.c.cfg.Runner.Wait(ctx, in.ID)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			exit = runner.Exit{Code: -1, At: time.Now()}
		}
		end <- exit
	})
	a.mu.Lock()
	starting := in.state == formation.Starting
	a.mu.Unlock()
	if starting {
		plan, err := a.planOf(ctx, in.release)
		if err != nil {
			return
		}
		if a.starting(ctx, in, plan, end) {
			return
		}
	}
	select {
	case exit := <-end:
		a.over(ctx, in, exit)
	case <-ctx.Done():
	}
}

// planOf waits until the plan of an adopted instance's release has been read.
func (a *actor) planOf(ctx context.Context, release int) (*Plan, error) {
	var plan *Plan
	err := a.await(ctx, func() (bool, error) {
		plan = a.plans[release]
		unwanted := a.want.Revision != 0 && release != a.want.Release && release != a.want.Next
		return plan != nil || unwanted || a.destroyed, nil
	})
	if plan == nil && err == nil {
		plan = &Plan{Deadline: defaultDeadline, Grace: defaultGrace, Processes: map[string]Process{}}
	}
	return plan, err
}

// starting asks the instance whether it is ready. It returns true when it has ended instead.
func (a *actor) starting(ctx context.Context, in *instance, plan *Plan, end chan runner.Exit) bool {
	asked := time.Now()
	limit, cancel := context.WithTimeout(ctx, plan.Deadline)
	defer cancel()
	answer := make(chan error, 1)
	a.lives.Go(func() { answer <- a.ask(limit, in, plan) })
	for {
		select {
		case err := <-answer:
			if ctx.Err() != nil {
				return true
			}
			if err == nil {
				a.up(in, time.Since(asked))
				return false
			}
			a.stuck(ctx, in, plan, err)
			return true
		case exit := <-end:
			cancel()
			<-answer
			a.over(ctx, in, exit)
			return true
		case <-ctx.Done():
			<-answer
			return true
		}
	}
}

func (a *actor) ask(ctx context.Context, in *instance, plan *Plan) error {
	if routed(plan) == in.process {
		return a.listens(ctx, in, plan.Processes[in.process].Probe)
	}
	select {
	case <-time.After(settleTime):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// routed is the process type of a plan that requests go to.
func routed(plan *Plan) string {
	counts := formation.Counts{}
	for process := range plan.Processes {
		counts[process] = 1
	}
	return counts.Routed()
}

// listens waits for the probe; a program that listens elsewhere all the time is not waited
// for until the deadline.
func (a *actor) listens(ctx context.Context, in *instance, p probe.Probe) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(wrongPortAfter, func() {
		if why := a.elsewhere(ctx, in); why != "" {
			cancel(wrongPort(why))
		}
	})
	defer watch.Stop()
	err := probe.Wait(ctx, in.Addr, p)
	if why, ok := context.Cause(ctx).(wrongPort); ok && err != nil {
		return why
	}
	return err
}

// up lets requests come.
func (a *actor) up(in *instance, took time.Duration) {
	a.mu.Lock()
	if in.state == formation.Starting {
		in.state = formation.Up
	}
	say := a.say[in.release]
	a.notify()
	a.mu.Unlock()
	a.poke()
	if say != nil {
		say(fmt.Sprintf("       %s started, ready in %s", in.slot, pretty(took)))
	}
}

func pretty(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// over is the end of an instance: wished for, or a crash.
func (a *actor) over(ctx context.Context, in *instance, exit runner.Exit) {
	a.mu.Lock()
	in.Exit = &exit
	wished := in.state == formation.Stopping
	ready := in.state == formation.Up
	a.mu.Unlock()
	if wished {
		a.mu.Lock()
		a.bury(in)
		a.notify()
		a.mu.Unlock()
		a.poke()
		return
	}
	a.crashed(ctx, in, ended(in, exit, ready, a.memoryLimit(in)), &exit)
}

// bury moves an instance to those that are only kept for their logs. a.mu is held.
func (a *actor) bury(in *instance) {
	for i, other := range a.instances {
		if other == in {
			a.instances = append(a.instances[:i:i], a.instances[i+1:]...)
			break
		}
	}
	if in.ID != "" {
		a.dead = append(a.dead, in)
	}
}

// crashed notes the end of an instance that should run, and when it may be started again.
func (a *actor) crashed(ctx context.Context, in *instance, why string, exit *runner.Exit) {
	a.mu.Lock()
	f := a.falls[in.slot]
	if exit != nil && exit.At.Sub(in.Started) > longLife {
		f.count = 0
	}
	f.count++
	f.retry = time.Now().Add(backoff(f.count))
	a.falls[in.slot] = f
	a.bury(in)
	shown := &instance{Instance: in.Instance, slot: in.slot, state: formation.Crashed, reason: why, at: time.Now()}
	shown.Exit, shown.tail = exit, in.tail
	in.state, in.reason = formation.Crashed, why
	a.instances = append(a.instances, shown)
	deploying := in.release == a.want.Next
	app := a.app
	a.notify()
	a.mu.Unlock()
	a.poke()
	if !deploying {
		a.note(ctx, fmt.Sprintf("%s; next try in %s", why, pretty(backoff(f.count))))
	}
	a.c.cfg.Log.Info("instance crashed", "app", app.Name, "instance", in.Name, "reason", why)
}

// backoff is the pause before the nth try: none for the first, then a second, doubling.
func backoff(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(time.Second<<min(n-2, 10), longPause)
}

// retire drains an instance that the route no longer has, and ends it.
func (a *actor) retire(ctx context.Context, in *instance) {
	a.mu.Lock()
	grace, name, gone := defaultGrace, a.app.Name, a.destroyed
	if plan := a.plans[in.release]; plan != nil {
		grace = plan.Grace
	}
	a.mu.Unlock()
	a.lives.Go(func() {
		if !gone {
			limit, cancel := context.WithTimeout(ctx, drainLimit)
			if err := a.c.cfg.Mesh.Drain(limit, name, in.Name); err != nil && ctx.Err() == nil {
				a.c.cfg.Log.Warn("ending an instance with requests in flight", "instance", in.Name, "err", err)
			}
			cancel()
		}
		if ctx.Err() != nil {
			return
		}
		if err := a.c.cfg.Runner.Stop(ctx, in.ID, grace); err != nil && ctx.Err() == nil {
			a.c.cfg.Log.Error("could not stop an instance", "instance", in.Name, "err", err)
		}
	})
}
