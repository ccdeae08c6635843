package image

import (
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Config is what an image says about the containers made from it.
type Config struct {
	Entrypoint []string
	Command    []string
	Env        []string
	WorkDir    string
	User       string
	Ports      []string // "8080/tcp"
	Volumes    []string // paths
	Labels     map[string]string
	StopSignal string
	Health     *Health
	OnBuild    []string // instructions for Dockerfiles that begin with this image
	Shell      []string // of the Dockerfile
	Author     string
	Created    time.Time // zero: the beginning of 1970, so that equal input gives equal digests
}

// Health is a command that is run in a container to see whether it works.
type Health struct {
	Command     []string // Docker's form: CMD and arguments, CMD-SHELL and a line, or NONE
	Interval    time.Duration
	Timeout     time.Duration
	StartPeriod time.Duration
	Retries     int

	StartInterval time.Duration // instead of Interval in the StartPeriod
}

// A configFile is the JSON of an image's configuration: OCI's, with what Docker adds.
type configFile = dockerspec.DockerOCIImage

func configOf(f configFile) Config {
	c := Config{
		Entrypoint: f.Config.Entrypoint, Command: f.Config.Cmd, Env: f.Config.Env,
		WorkDir: f.Config.WorkingDir, User: f.Config.User, Labels: f.Config.Labels,
		StopSignal: f.Config.StopSignal, OnBuild: f.Config.OnBuild, Shell: f.Config.Shell, Author: f.Author,
		Ports:   slices.Sorted(maps.Keys(f.Config.ExposedPorts)),
		Volumes: slices.Sorted(maps.Keys(f.Config.Volumes)),
	}
	if f.Created != nil {
		c.Created = *f.Created
	}
	c.Health = healthOf(f.Config.Healthcheck)
	return c
}

func healthOf(h *dockerspec.HealthcheckConfig) *Health {
	if h == nil {
		return nil
	}
	return &Health{
		Command: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

// newConfigFile describes an image of layers for a platform.
func newConfigFile(c Config, platform ocispec.Platform, diffIDs []digest.Digest, history []ocispec.History) configFile {
	created := whenMade(c)
	var f configFile
	f.Created, f.Author, f.Platform, f.History = &created, c.Author, platform, history
	f.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: append([]digest.Digest{}, diffIDs...)}
	f.Config.ImageConfig = ocispec.ImageConfig{
		Entrypoint: c.Entrypoint, Cmd: c.Command, Env: c.Env, WorkingDir: c.WorkDir, User: c.User,
		Labels: c.Labels, StopSignal: c.StopSignal, ExposedPorts: set(c.Ports), Volumes: set(c.Volumes),
	}
	f.Config.OnBuild, f.Config.Shell = c.OnBuild, c.Shell
	if h := c.Health; h != nil {
		f.Config.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: h.Command, Interval: h.Interval, Timeout: h.Timeout,
			StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	return f
}

func whenMade(c Config) time.Time {
	if c.Created.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return c.Created.UTC()
}

// over lays c on base: what c leaves empty is base's word. A new entrypoint drops base's
// command, which was meant for the old one.
func (c Config) over(base Config) Config {
	out := base
	out.Created, out.OnBuild = c.Created, c.OnBuild // base's were for us, not for those after us
	if c.Entrypoint != nil {
		out.Entrypoint, out.Command = c.Entrypoint, nil
	}
	if c.Command != nil {
		out.Command = c.Command
	}
	if c.Shell != nil {
		out.Shell = c.Shell
	}
	if c.Health != nil {
		out.Health = c.Health
	}
	for to, from := range map[*string]string{
		&out.WorkDir: c.WorkDir, &out.User: c.User, &out.StopSignal: c.StopSignal, &out.Author: c.Author,
	} {
		if from != "" {
			*to = from
		}
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

// platformOf reads "linux/arm64/v8"; an empty one is this machine's.
func platformOf(text string) (ocispec.Platform, error) {
	if text == "" {
		return platforms.DefaultSpec(), nil
	}
	// The API knows a second way to write it.
	var p ocispec.Platform
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &p) == nil {
		return platforms.Normalize(p), nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return p, badPlatform(text, err)
	}
	return p, nil
}
