package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/probe"
	"sampan.dev/sampan/apps/internal/quantity"
	"sampan.dev/sampan/apps/internal/runner"
)

const (
	defaultPort     = 5000
	defaultDeadline = 60 * time.Second
	defaultGrace    = 10 * time.Second
	pidsLimit       = 2048
)

// A Plan is all that is needed to run one release.
type Plan struct {
	App       catalog.App
	Release   catalog.Release
	Build     catalog.Build
	Values    map[string]string // the configuration
	Env       []string
	Port      int
	Processes map[string]Process
	Deadline  time.Duration // to become ready
	Grace     time.Duration // to end after being asked
}

// A Process is how the instances of one type run.
type Process struct {
	Command []string
	Limits  runner.Limits
	Probe   probe.Probe
}

// Plan reads what a release runs.
func (c *Controller) Plan(ctx context.Context, a catalog.App, version int) (*Plan, error) {
	rel, err := c.cfg.Catalog.Release(ctx, a.ID, version)
	if err != nil {
		return nil, err
	}
	if rel.BuildID == 0 {
		return nil, fmt.Errorf("release %d of %s has no build", version, a.Name)
	}
	b, err := c.cfg.Catalog.BuildByID(ctx, rel.BuildID)
	if err != nil {
		return nil, err
	}
	cfg, err := c.cfg.Catalog.Config(ctx, c.cfg.Catalog.DB(), a.ID, rel.ConfigID)
	if err != nil {
		return nil, err
	}
	return newPlan(a, rel, b, cfg.Settings), nil
}

func newPlan(a catalog.App, rel catalog.Release, b catalog.Build, s catalog.Settings) *Plan {
	p := &Plan{App: a, Release: rel, Build: b, Values: s.Values, Port: b.Result.Port, Processes: map[string]Process{}}
	if p.Port == 0 {
		p.Port = defaultPort
	}
	if n, err := strconv.Atoi(s.Values["PORT"]); err == nil {
		p.Port = n
	}
	p.Deadline = seconds(s.Values["DEIS_DEPLOY_TIMEOUT"], defaultDeadline)
	p.Grace = seconds(s.Values["KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS"], defaultGrace)
	p.Env = environment(a, rel, b, s.Values)
	commands := b.Result.Processes
	if len(commands) == 0 {
		commands = map[string][]string{formation.Main(b.Result.Dockerfile, b.SHA): nil}
	}
	for name, command := range commands {
		p.Processes[name] = Process{
			Command: command,
			Probe:   readiness(name, s.Healthcheck[name]),
			Limits: runner.Limits{
				Memory: quantity.MemoryLimit(s.Memory[name]), CPU: quantity.CPULimit(s.CPU[name]), Pids: pidsLimit,
			},
		}
	}
	return p
}

// environment is what the build needs, then the app's settings, then what is ours to say.
func environment(a catalog.App, rel catalog.Release, b catalog.Build, values map[string]string) []string {
	env := slices.Clone(b.Result.Env)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name != "PORT" {
			env = append(env, name+"="+values[name])
		}
	}
	return append(env,
		"DEIS_APP="+a.Name,
		"WORKFLOW_RELEASE=v"+strconv.Itoa(rel.Version),
		"WORKFLOW_RELEASE_SUMMARY="+rel.Summary,
		"WORKFLOW_RELEASE_CREATED_AT="+rel.Created.UTC().Format(time.RFC3339),
		"SOURCE_VERSION="+b.SHA,
	)
}

func seconds(text string, otherwise time.Duration) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 || n > 3600 {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

// readiness reads the readiness probe of a process type; any other check is none for us, and
// the default, an accepted connection, holds.
func readiness(process string, check json.RawMessage) probe.Probe {
	var c struct {
		ReadinessProbe, LivenessProbe *struct {
			TimeoutSeconds int `json:"timeoutSeconds"`
			HTTPGet        *struct {
				Path        string `json:"path"`
				HTTPHeaders []struct {
					Name  string `json:"name"`
					Value string `json:"value"`
				} `json:"httpHeaders"`
			} `json:"httpGet"`
		}
	}
	if len(check) == 0 || json.Unmarshal(check, &c) != nil {
		return probe.Probe{}
	}
	use := c.ReadinessProbe
	if use == nil {
		use = c.LivenessProbe
	}
	if use == nil || use.HTTPGet == nil {
		return probe.Probe{}
	}
	p := probe.Probe{Path: "/" + strings.TrimPrefix(use.HTTPGet.Path, "/"), Timeout: time.Duration(use.TimeoutSeconds) * time.Second}
	for _, h := range use.HTTPGet.HTTPHeaders {
		if p.Header == nil {
			p.Header = map[string]string{}
		}
		p.Header[h.Name] = h.Value
	}
	return p
}

// spec is what the runner is told for one instance.
func (p *Plan) spec(name string, s slot) runner.Spec {
	process := p.Processes[s.process]
	return runner.Spec{
		Name: name, App: p.App.Key(), AppName: p.App.Name, Process: s.process, Number: s.number, Release: s.release,
		Artifact: p.Build.Result.Artifact, Command: process.Command, Env: p.Env, Port: p.Port, Limits: process.Limits,
	}
}

// OneOff is the spec of a command in a fresh instance. A line of plain words runs as it is,
// for images without a shell; any other is the shell's.
func (p *Plan) OneOff(line string) runner.Spec {
	spec := p.spec(instanceName(p.App.Name, "run"), slot{release: p.Release.Version, process: "run", number: 1})
	spec.Command = []string{"/bin/sh", "-c", line}
	if words := strings.Fields(line); len(words) > 0 && !strings.ContainsAny(line, "|&;<>()$`\\\"'*?[]#~=%{}!\n") {
		spec.Command = words
	}
	spec.Limits = runner.Limits{Pids: pidsLimit}
	return spec
}
