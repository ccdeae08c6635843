// Package job is what the builders of a language are told, and what they answer.
package job

import (
	"context"
	"time"

	"sampan.dev/sampan/build/internal/machine"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/procfile"
	"sampan.dev/sampan/build/internal/rootfs"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/build/internal/step"
)

// A Language is a builder: one way from source to parts of an image.
type Language interface {
	// Name is what is shown.
	Name() string
	// Detect says what it found in the tree; empty when there is nothing for it.
	Detect(t *source.Tree) (found string, err error)
	// Build makes the parts. What the source is to blame for is a fault.
	Build(ctx context.Context, j *Job) (Product, error)
}

// A Job is one build. The directories are the builder's alone while it runs.
type Job struct {
	Name     string             // of the image
	Scope    string             // of the caches
	Source   *source.Tree       // as it was given
	App      string             // a copy of it, which commands may write to
	Scratch  string             // empty; gone after the build
	Cache    string             // of the scope; stays
	Procfile []procfile.Process // empty without one
	Env      map[string]string  // from the app's settings
	Time     time.Time
	Limits   sandbox.Limits
	Box      sandbox.Box
	Machine  *machine.Settings
	Roots    *rootfs.Store // nil on the host
	Out      *step.Output
}

// A Process is how one of an app's processes starts.
type Process struct {
	Name string
	Argv []string // a first word below pack.App is moved with the app on the host
}

// A Product is what a build made.
type Product struct {
	Image     string // name@digest, when the builder made all of it; Parts are empty then
	Port      int    // that such an image says it listens on
	Base      string // the image below the parts; empty: none
	Parts     []pack.Part
	Processes []Process
	Env       []string
	Shell     bool // there is a /bin/sh for the commands of a Procfile
}

// Environment is extra followed by the app's settings, which win.
func (j *Job) Environment(extra ...string) []string {
	env := append([]string(nil), extra...)
	for name, value := range j.Env {
		env = append(env, name+"="+value)
	}
	return env
}

// NeedsShell reports whether a command of the Procfile does.
func (j *Job) NeedsShell() bool {
	for _, p := range j.Procfile {
		if _, needs := p.Words(); needs != "" {
			return true
		}
	}
	return false
}
