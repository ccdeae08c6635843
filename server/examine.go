package server

import (
	"context"
	"os/exec"
	"strings"

	"sampan.dev/sampan/engine"
)

// A Diagnosis is what a machine can do for Sampan.
type Diagnosis struct {
	Containers bool           `json:"containers"` // apps can run in containers
	Verdict    string         `json:"verdict"`
	Checks     []engine.Check `json:"checks"`
}

// Examine tries what a server needs.
func Examine(ctx context.Context) Diagnosis {
	d := Diagnosis{Checks: append([]engine.Check{checkGit(ctx)}, engine.Probe(ctx)...)}
	why := noContainers(ctx)
	d.Containers = why == ""
	d.Verdict = "Apps run in containers."
	if why != "" {
		d.Verdict = "Apps run as plain processes, without isolation: " + why + "."
	}
	return d
}

func checkGit(ctx context.Context) engine.Check {
	out, err := exec.CommandContext(ctx, "git", "version").Output()
	if err != nil {
		return engine.Check{Name: "git", Detail: err.Error(), Remedy: "install the package git"}
	}
	return engine.Check{Name: "git", OK: true, Detail: strings.TrimSpace(strings.TrimPrefix(string(out), "git version "))}
}
