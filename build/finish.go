package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/keep"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/procfile"
	"sampan.dev/sampan/build/internal/rootfs"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// finish makes an image of a product, or a directory on the host.
func (b *Builder) finish(ctx context.Context, req Request, j *job.Job, p job.Product) (Result, error) {
	p.Shell = p.Shell || b.cfg.Engine == nil
	processes, err := merge(p, j.Procfile)
	if err != nil {
		return Result{}, err
	}
	r := Result{Processes: processes, Env: p.Env, Port: p.Port, Image: p.Image}
	switch {
	case p.Image != "":
	case b.cfg.Engine == nil:
		r.Dir = filepath.Join(j.Cache, "results", b.key(req))
		err = b.place(ctx, j, p, &r)
	default:
		r.Image, err = b.assemble(ctx, req, j, p, processes["web"])
	}
	if err != nil {
		return Result{}, err
	}
	j.Out.Step("Processes: %s", strings.Join(names(processes), ", "))
	if _, ok := processes["web"]; !ok {
		j.Out.Detail("none is called web, so nothing answers requests; name one in a Procfile")
	}
	return r, nil
}

func names(processes map[string][]string) []string {
	var all []string
	for name := range processes {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// merge lets the Procfile decide. Without one the builder's processes are the app's; with one
// only its web stays, unless the Procfile has another.
func merge(p job.Product, lines []procfile.Process) (map[string][]string, error) {
	all := map[string][]string{}
	for _, d := range p.Processes {
		if d.Name == "web" || len(lines) == 0 {
			all[d.Name] = d.Argv
		}
	}
	for _, l := range lines {
		words, needs := l.Words()
		switch {
		case needs == "":
			all[l.Name] = words
		case p.Shell:
			all[l.Name] = []string{"/bin/sh", "-c", shellLine(l.Command)}
		default:
			return nil, fault.Invalid("Procfile line %d needs a shell for %s, and this image has none", l.Line, needs).
				Try("read PORT and other settings in the program, or use a Dockerfile")
		}
	}
	return all, nil
}

// shellLine replaces the shell by a command that needs it only for its variables, so that the
// program gets the signals.
func shellLine(command string) string {
	if strings.ContainsAny(command, ";&|\n(){}<>`") || strings.HasPrefix(command, "exec ") {
		return command
	}
	if first, _, _ := strings.Cut(command, " "); strings.Contains(first, "=") {
		return command
	}
	return "exec " + command
}

// tagged is a name for one build alone, so that the image stays when another build follows:
// a release may return to it.
func tagged(name, key string) string {
	if strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		return name
	}
	return name + ":" + key
}

func (b *Builder) assemble(ctx context.Context, req Request, j *job.Job, p job.Product, web []string) (string, error) {
	j.Out.Step("Making the image")
	cfg := engine.ImageConfig{
		Command: web, Env: p.Env, WorkDir: pack.App, User: fmt.Sprintf("%d:%d", rootfs.User, rootfs.User),
		Created: req.Time, StopSignal: "SIGTERM",
		Labels: map[string]string{"org.opencontainers.image.revision": req.Commit},
	}
	image, err := b.cfg.Engine.Assemble(ctx, j.Name, p.Base, pack.Layers(ctx, p.Parts, req.Time), cfg)
	if err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	j.Out.Detail("%s, %.1f MB", image.Digest, float64(image.Size)/1e6)
	return j.Name + "@" + image.Digest, nil
}

// place puts the parts into the result's directory and points the processes there.
func (b *Builder) place(ctx context.Context, j *job.Job, p job.Product, r *Result) error {
	tmp := filepath.Join(j.Scratch, "result")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return fmt.Errorf("make the result: %w", err)
	}
	if err := pack.Place(ctx, tmp, p.Parts); err != nil {
		return err
	}
	old := tmp + ".old" // an equal result of which the record was lost
	if err := os.Rename(r.Dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make the result: %w", err)
	}
	if err := keep.Dir(tmp, r.Dir); err != nil {
		return err
	}
	for name, argv := range r.Processes {
		r.Processes[name] = onHost(r.Dir, argv)
	}
	for i, e := range r.Env {
		r.Env[i] = strings.ReplaceAll(e, pack.App+"/", r.Dir+"/")
	}
	if i := slices.IndexFunc(r.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }); i >= 0 {
		r.Env[i] += ":" + b.machine.Get("PATH")
	}
	return nil
}

// onHost finds a command's program in the result's directory.
func onHost(dir string, argv []string) []string {
	argv = slices.Clone(argv)
	if below, ok := strings.CutPrefix(argv[0], pack.App+"/"); ok {
		argv[0] = filepath.Join(dir, below)
		return argv
	}
	tree, err := source.Open(dir)
	if err != nil {
		return argv
	}
	defer tree.Close()
	for _, name := range []string{argv[0], path.Join("bin", argv[0])} {
		if !path.IsAbs(name) && (strings.Contains(argv[0], "/") || name != argv[0]) && tree.File(name) {
			argv[0] = filepath.Join(dir, name)
			return argv
		}
	}
	return argv
}
