// Package contain runs instances as containers on the embedded engine.
//
// What an instance is stands in its container's labels, so all that an earlier server started
// is found again. The engine restarts nothing: the controller decides. A container has the
// engine's defaults: Docker's seccomp profile and capabilities but for raw packets, no new
// privileges.
package contain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/apps/internal/sockets"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

const (
	labelPart    = "dev.sampan.part"
	labelApp     = "dev.sampan.app"
	labelAppName = "dev.sampan.app.name"
	labelProcess = "dev.sampan.process"
	labelNumber  = "dev.sampan.number"
	labelRelease = "dev.sampan.release"
	labelPort    = "dev.sampan.port"

	part   = "apps"
	oneOff = "apps-run"

	// network is where all instances are. They belong to different people, so they do not
	// reach each other but by the front door.
	network = "sampan-apps"

	logSize  = 4 << 20
	logFiles = 3
)

// embeddedDNS is where the engine itself listens in the namespace of each container.
var embeddedDNS = netip.MustParseAddr("127.0.0.11")

// A Runner starts containers.
type Runner struct{ engine *engine.Engine }

var _ runner.Runner = (*Runner)(nil)

// New makes a Runner on an engine that stays the caller's. One-off containers of an earlier
// server have lost the person who asked for them: they are removed.
func New(ctx context.Context, e *engine.Engine) (*Runner, error) {
	r := &Runner{engine: e}
	_, err := e.CreateNetwork(ctx, engine.NetworkSpec{Name: network, Isolated: true})
	if err != nil && !fault.Is(err, fault.KindConflict) {
		return nil, fmt.Errorf("make the network of apps: %w", err)
	}
	left, err := e.Containers(ctx, map[string]string{labelPart: oneOff})
	if err != nil {
		return nil, fmt.Errorf("list one-off containers: %w", err)
	}
	for _, c := range left {
		if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil {
			return nil, fmt.Errorf("remove one-off container %s: %w", c.Name, err)
		}
	}
	return r, nil
}

// Traits implements [runner.Runner].
func (r *Runner) Traits() runner.Traits { return runner.Traits{Name: "containers", Isolated: true} }

func spec(s runner.Spec, role string) engine.Spec {
	env := slices.Clone(s.Env)
	if s.Port != 0 {
		env = append(env, "PORT="+strconv.Itoa(s.Port))
	}
	return engine.Spec{
		Name: s.Name, Image: s.Image, Entrypoint: s.Command, Env: env, Hostname: s.Name,
		Labels: map[string]string{
			labelPart: role, labelApp: s.App, labelAppName: s.AppName, labelProcess: s.Process,
			labelNumber: strconv.Itoa(s.Number), labelRelease: strconv.Itoa(s.Release), labelPort: strconv.Itoa(s.Port),
		},
		Network: network, CapDrop: []string{"NET_RAW"}, // none forges the packets of another
		Limits:  engine.Limits{Memory: s.Limits.Memory, CPUs: s.Limits.CPU, Pids: s.Limits.Pids},
		Restart: engine.Restart{Policy: engine.RestartNo},
		Logs:    engine.LogLimits{Size: logSize, Files: logFiles},
	}
}

// Start implements [runner.Runner].
func (r *Runner) Start(ctx context.Context, s runner.Spec) (runner.Instance, error) {
	if s.Image == "" {
		return runner.Instance{}, fault.Conflict("this release was built for host processes, not for containers").Try("deploy it again")
	}
	c, err := r.engine.Create(ctx, spec(s, part))
	if err != nil {
		return runner.Instance{}, err
	}
	if err := r.engine.Start(ctx, c.ID); err != nil {
		return runner.Instance{}, errors.Join(err, r.engine.Remove(context.WithoutCancel(ctx), c.ID, engine.RemoveOptions{Force: true, Volumes: true}))
	}
	if c, err = r.engine.Container(ctx, c.ID); err != nil {
		return runner.Instance{}, err
	}
	return instance(c), nil
}

func instance(c engine.Container) runner.Instance {
	labels := c.Spec.Labels
	number, _ := strconv.Atoi(labels[labelNumber])
	release, _ := strconv.Atoi(labels[labelRelease])
	in := runner.Instance{
		ID: c.ID, Name: c.Name, App: labels[labelApp], Process: labels[labelProcess], Number: number, Release: release,
		Started: c.Started,
	}
	if c.IP != "" && labels[labelPort] != "0" {
		in.Addr = net.JoinHostPort(c.IP, labels[labelPort])
	}
	if c.State == engine.Exited || c.State == engine.Created {
		exit := exitOf(c.Exit)
		if c.State == engine.Created {
			exit = runner.Exit{Code: -1, At: c.Created}
		}
		in.Exit = &exit
	}
	return in
}

func exitOf(e engine.Exit) runner.Exit { return runner.Exit{Code: e.Code, OOM: e.OOM, At: e.At} }

// Instances implements [runner.Runner].
func (r *Runner) Instances(ctx context.Context) ([]runner.Instance, error) {
	list, err := r.engine.Containers(ctx, map[string]string{labelPart: part})
	if err != nil {
		return nil, err
	}
	found := make([]runner.Instance, 0, len(list))
	for _, c := range list {
		found = append(found, instance(c))
	}
	return found, nil
}

// Wait implements [runner.Runner].
func (r *Runner) Wait(ctx context.Context, id string) (runner.Exit, error) {
	e, err := r.engine.Wait(ctx, id)
	return exitOf(e), err
}

// Stop implements [runner.Runner].
func (r *Runner) Stop(ctx context.Context, id string, grace time.Duration) error {
	err := r.engine.Stop(ctx, id, "", grace)
	if fault.Is(err, fault.KindNotFound) {
		return nil
	}
	return err
}

// Remove implements [runner.Runner].
func (r *Runner) Remove(ctx context.Context, id string) error {
	err := r.engine.Remove(ctx, id, engine.RemoveOptions{Force: true, Volumes: true})
	if fault.Is(err, fault.KindNotFound) {
		return nil
	}
	return err
}

// Run implements [runner.Runner].
func (r *Runner) Run(ctx context.Context, s runner.Spec, streams runner.Streams) (_ runner.Exit, err error) {
	want := spec(s, oneOff)
	want.TTY, want.Stdin = streams.TTY, streams.Stdin != nil
	c, err := r.engine.Create(ctx, want)
	if err != nil {
		return runner.Exit{}, err
	}
	defer func() {
		err = errors.Join(err, r.engine.Remove(context.WithoutCancel(ctx), c.ID, engine.RemoveOptions{Force: true, Volumes: true}))
	}()
	ctx, cancel := context.WithCancel(ctx)
	sizes := make(chan engine.Size, 1)
	if streams.TTY {
		sizes <- size(streams.Size)
	}
	var relaying sync.WaitGroup
	relaying.Go(func() { relay(ctx, streams.Resize, sizes) })
	defer func() { cancel(); relaying.Wait() }()
	wait, err := r.engine.Attach(ctx, c.ID, engine.Streams{Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, Resize: sizes})
	if err != nil {
		return runner.Exit{}, err
	}
	if err := r.engine.Start(ctx, c.ID); err != nil {
		return runner.Exit{}, err
	}
	if streams.TTY { // now there surely is a terminal that can have a size
		if err := r.engine.Resize(ctx, c.ID, size(streams.Size)); err != nil && !fault.Is(err, fault.KindConflict) {
			return runner.Exit{}, err
		}
	}
	exit, err := wait()
	return exitOf(exit), err
}

func size(s runner.Size) engine.Size { return engine.Size{Columns: s.Width, Rows: s.Height} }

func relay(ctx context.Context, from <-chan runner.Size, to chan<- engine.Size) {
	for {
		select {
		case s, ok := <-from:
			if !ok {
				return
			}
			select {
			case to <- size(s):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Fetch implements [runner.Runner].
func (r *Runner) Fetch(ctx context.Context, image string) (runner.Fetched, error) {
	found, err := r.named(ctx, image)
	if fault.Is(err, fault.KindNotFound) {
		found, err = r.engine.Pull(ctx, image, engine.PullOptions{}, nil)
	}
	if err != nil {
		return runner.Fetched{}, err
	}
	f := runner.Fetched{Artifact: runner.Artifact{Image: image}}
	for _, port := range found.Config.Ports {
		number, protocol, _ := strings.Cut(port, "/")
		if n, err := strconv.Atoi(number); err == nil && protocol != "udp" && (f.Port == 0 || n < f.Port) {
			f.Port = n
		}
	}
	return f, nil
}

// Has implements [runner.Runner].
func (r *Runner) Has(ctx context.Context, a runner.Artifact) (bool, error) {
	if a.Image == "" {
		return false, nil
	}
	_, err := r.engine.Image(ctx, a.Image)
	if fault.Is(err, fault.KindNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Discard implements [runner.Runner].
func (r *Runner) Discard(ctx context.Context, a runner.Artifact) error {
	if a.Image == "" {
		return nil
	}
	_, err := r.engine.RemoveImage(ctx, a.Image, false)
	if fault.Is(err, fault.KindNotFound) {
		return nil
	}
	return err
}

// Logs implements [runner.Runner].
func (r *Runner) Logs(ctx context.Context, id string, o runner.LogOptions, each func(runner.Line) error) error {
	return r.engine.Logs(ctx, id, engine.LogOptions{Follow: o.Follow, Tail: o.Tail, Since: o.Since}, func(l engine.Line) error {
		return each(runner.Line{Time: l.Time, Stream: l.Stream, Text: strings.TrimRight(l.Text, "\r\n")})
	})
}

// Stats implements [runner.Runner].
func (r *Runner) Stats(ctx context.Context, id string) (runner.Stats, error) {
	s, err := r.engine.Stats(ctx, id)
	return runner.Stats{CPU: s.CPU, Memory: int64(s.Memory), MemoryLimit: int64(s.MemoryLimit), OOMKills: int64(s.OOMKills)}, err
}

// Listening implements [runner.Runner].
func (r *Runner) Listening(ctx context.Context, id string) ([]netip.AddrPort, error) {
	c, err := r.engine.Container(ctx, id)
	if err != nil || c.Pid == 0 {
		return nil, err
	}
	found, err := sockets.Of(c.Pid)
	var list []netip.AddrPort
	for _, s := range found {
		if s.Addr.Addr() != embeddedDNS {
			list = append(list, s.Addr)
		}
	}
	return list, err
}
