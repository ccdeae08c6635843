package image

import (
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A configFile is the JSON of an image's configuration. OCI has no health check; Docker's
// field is what clients write and read.
type configFile struct {
	Created *time.Time `json:"created,omitempty"`
	ocispec.Platform
	Config  configJSON        `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history,omitempty"`
}

type configJSON struct {
	ocispec.ImageConfig
	Healthcheck *healthJSON `json:",omitempty"`
}

type healthJSON struct {
	Test        []string      `json:",omitempty"`
	Interval    time.Duration `json:",omitempty"`
	Timeout     time.Duration `json:",omitempty"`
	StartPeriod time.Duration `json:",omitempty"`
	Retries     int           `json:",omitempty"`
}

func (f configFile) config() Config {
	c := Config{
		Entrypoint: f.Config.Entrypoint, Command: f.Config.Cmd, Env: f.Config.Env,
		WorkDir: f.Config.WorkingDir, User: f.Config.User, Labels: f.Config.Labels,
		StopSignal: f.Config.StopSignal,
		Ports:      slices.Sorted(maps.Keys(f.Config.ExposedPorts)),
		Volumes:    slices.Sorted(maps.Keys(f.Config.Volumes)),
	}
	if f.Created != nil {
		c.Created = *f.Created
	}
	if h := f.Config.Healthcheck; h != nil {
		c.Health = &Health{Command: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries}
	}
	return c
}

func newConfigFile(c Config, diffIDs []digest.Digest) configFile {
	created := c.Created
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	created = created.UTC()
	f := configFile{
		Created: &created, Platform: platforms.DefaultSpec(),
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: append([]digest.Digest{}, diffIDs...)},
		Config: configJSON{ImageConfig: ocispec.ImageConfig{
			Entrypoint: c.Entrypoint, Cmd: c.Command, Env: c.Env, WorkingDir: c.WorkDir, User: c.User,
			Labels: c.Labels, StopSignal: c.StopSignal, ExposedPorts: set(c.Ports), Volumes: set(c.Volumes),
		}},
	}
	if h := c.Health; h != nil {
		f.Config.Healthcheck = &healthJSON{Test: h.Command, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries}
	}
	return f
}

// over lays c on base: what c leaves empty is base's word. A new entrypoint drops base's
// command, which was meant for the old one.
func (c Config) over(base Config) Config {
	out := base
	out.Created = c.Created
	if c.Entrypoint != nil {
		out.Entrypoint, out.Command = c.Entrypoint, nil
	}
	if c.Command != nil {
		out.Command = c.Command
	}
	if c.WorkDir != "" {
		out.WorkDir = c.WorkDir
	}
	if c.User != "" {
		out.User = c.User
	}
	if c.StopSignal != "" {
		out.StopSignal = c.StopSignal
	}
	if c.Health != nil {
		out.Health = c.Health
	}
	out.Env = MergeEnv(base.Env, c.Env)
	out.Ports = union(base.Ports, c.Ports)
	out.Volumes = union(base.Volumes, c.Volumes)
	if len(base.Labels)+len(c.Labels) > 0 {
		out.Labels = map[string]string{}
		maps.Copy(out.Labels, base.Labels)
		maps.Copy(out.Labels, c.Labels)
	}
	return out
}

// MergeEnv lays over on base: NAME=value replaces, NAME alone removes.
func MergeEnv(base, over []string) []string {
	out := slices.Clone(base)
	for _, entry := range over {
		name, _, set := strings.Cut(entry, "=")
		at := slices.IndexFunc(out, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		switch {
		case set && at >= 0:
			out[at] = entry
		case set:
			out = append(out, entry)
		case at >= 0:
			out = slices.Delete(out, at, at+1)
		}
	}
	return out
}

func union(a, b []string) []string {
	out := append(slices.Clone(a), b...)
	sort.Strings(out)
	return slices.Compact(out)
}

func set(names []string) map[string]struct{} {
	if len(names) == 0 {
		return nil
	}
	m := make(map[string]struct{}, len(names))
	for _, name := range names {
		m[name] = struct{}{}
	}
	return m
}
