package platform

import (
	"context"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/logs"
	"sampan.dev/sampan/apps/internal/meter"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// maxInstances bounds one process type on one machine.
const maxInstances = 200

// Instances are what runs of an app now, and what crashed and is started again.
func (p *Platform) Instances(ctx context.Context, who identity.Who, name string) (catalog.App, []formation.Instance, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return a, nil, err
	}
	return a, p.controller.Instances(a), nil
}

// Scale sets how many instances of process types run.
func (p *Platform) Scale(ctx context.Context, who identity.Who, name string, counts map[string]int) error {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return err
	}
	f, err := p.controller.Formation(ctx, a)
	if err != nil {
		return err
	}
	if f.Release == 0 {
		return fault.Invalid("No build associated with this release").Try("deploy something first: git push")
	}
	plan, err := p.controller.Plan(ctx, a, f.Release)
	if err != nil {
		return err
	}
	for process, n := range counts {
		_, known := plan.Processes[process]
		switch {
		case n < 0 || n > maxInstances:
			return fault.Invalid("%d instances of %s are not possible", n, process).Try("choose a number from 0 to %d", maxInstances)
		case !known && process != "cmd":
			return fault.NotFound("Container type %s does not exist in application", process).Try("name it in the Procfile")
		}
	}
	return p.pipeline.Exclusively(ctx, a, func(ctx context.Context) error { return p.controller.Scale(ctx, a, counts) })
}

// Restart replaces instances by new ones, which it returns; empty process and instance mean all.
func (p *Platform) Restart(ctx context.Context, who identity.Who, name, process, instance string) (catalog.App, []formation.Instance, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return a, nil, err
	}
	var fresh []formation.Instance
	err = p.pipeline.Exclusively(ctx, a, func(ctx context.Context) error {
		fresh, err = p.controller.Restart(ctx, a, process, instance)
		return err
	})
	if err != nil {
		return a, nil, err
	}
	return a, fresh, nil
}

// Logs calls each for lines of an app's log.
func (p *Platform) Logs(ctx context.Context, who identity.Who, name string, o logs.Options, each func(logs.Line) error) error {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return err
	}
	return p.logs.Read(ctx, a, o, each)
}

// OneOff starts a command in a fresh instance of the release that serves, and waits for it.
func (p *Platform) OneOff(ctx context.Context, who identity.Who, name, command string, streams runner.Streams) (runner.Exit, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return runner.Exit{}, err
	}
	if command == "" {
		return runner.Exit{}, fault.Invalid("This field may not be blank.").On("command")
	}
	f, err := p.controller.Formation(ctx, a)
	if err != nil {
		return runner.Exit{}, err
	}
	if f.Release == 0 {
		return runner.Exit{}, fault.Invalid("No build associated with this release to run this command").Try("deploy something first: git push")
	}
	plan, err := p.controller.Plan(ctx, a, f.Release)
	if err != nil {
		return runner.Exit{}, err
	}
	if err := p.catalog.Note(ctx, p.catalog.DB(), a.ID, catalog.Info, who.Name+" runs '"+command+"'"); err != nil {
		return runner.Exit{}, err
	}
	return p.cfg.Runner.Run(ctx, plan.OneOff(command), streams)
}

// Metrics are what an app used in the last minutes.
func (p *Platform) Metrics(ctx context.Context, who identity.Who, name string) ([]meter.Sample, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return nil, err
	}
	return p.meter.Samples(a), nil
}

// Changed is closed when anything about an app's instances changes.
func (p *Platform) Changed(a catalog.App) <-chan struct{} { return p.controller.Changed(a) }
