package dockerfile

import (
	"bytes"
	"context"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/rootfs"
	"sampan.dev/sampan/internal/fault"
)

// bases sees to it that the images which the Dockerfile begins with are here. What cannot be
// read or understood is left to BuildKit, whose message is better.
func (b *Builder) bases(ctx context.Context, j *job.Job, text []byte) error {
	for _, name := range References(text, j.Env) {
		if Foreign(j.Name, name) {
			return fault.Invalid("the image %s was built for another app", name).Try("begin with an image of a registry")
		}
		if err := j.Roots.Base(ctx, j.Out, name, b.maker(ctx, j, name)); err != nil {
			return err
		}
	}
	return nil
}

// Foreign reports whether ref names what another build made: the images of all builds lie side
// by side, under one name each below a common one. own is the name of this build's.
func Foreign(own, ref string) bool {
	mine, err := reference.ParseDockerRef(own)
	if err != nil || !strings.Contains(own, "/") {
		return false
	}
	other, err := reference.ParseDockerRef(ref)
	if err != nil {
		return false
	}
	below := mine.Name()[:strings.LastIndexByte(mine.Name(), '/')+1]
	return strings.HasPrefix(other.Name(), below) && other.Name() != mine.Name()
}

// maker is how an image is made where no registry answers; nil when it cannot be.
func (b *Builder) maker(ctx context.Context, j *job.Job, ref string) func() error {
	name, tag, _ := strings.Cut(strings.TrimPrefix(ref, "docker.io/library/"), ":")
	switch name {
	case "debian":
		if isRelease(tag) {
			return func() error { return j.Roots.MakeDebian(ctx, j.Out, ref) }
		}
	case "busybox":
		return func() error { return j.Roots.MakeBusybox(ctx, j.Out, ref) }
	case "golang":
		return func() error { return b.golang.MakeImage(ctx, j, ref, tag) }
	case "node":
		return func() error { return b.node.MakeImage(ctx, j, ref, tag) }
	}
	return nil
}

// isRelease reports whether a tag of the image debian means the release that can be made.
func isRelease(tag string) bool {
	switch strings.TrimSuffix(tag, "-slim") {
	case rootfs.Release, "12", "latest":
		return true
	}
	return false
}

// References are the images that a Dockerfile names, in their full form, each once.
func References(text []byte, args map[string]string) []string {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	stages, global, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil
	}
	r := references{lex: shell.NewLex(ast.EscapeToken), stages: map[string]bool{"scratch": true, "context": true}, seen: map[string]bool{}}
	for _, g := range global {
		for _, a := range g.Args {
			value := a.ValueString()
			if given, ok := args[a.Key]; ok {
				value = given
			}
			r.env = append(r.env, a.Key+"="+r.expand(value))
		}
	}
	for _, s := range stages {
		r.add(s.BaseName)
		if s.Name != "" {
			r.stages[strings.ToLower(s.Name)] = true
		}
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.CopyCommand:
				r.add(c.From)
			case *instructions.RunCommand:
				for _, m := range instructions.GetMounts(c) {
					r.add(m.From)
				}
			}
		}
	}
	return r.all
}

type references struct {
	lex    *shell.Lex
	env    []string
	stages map[string]bool // names that are no images
	seen   map[string]bool
	all    []string
}

func (r *references) expand(word string) string {
	result, err := r.lex.ProcessWordWithMatches(word, shell.EnvsFromSlice(r.env))
	if err != nil {
		return word
	}
	return result.Result
}

func (r *references) add(name string) {
	name = r.expand(name)
	if name == "" || r.stages[strings.ToLower(name)] || strings.Trim(name, "0123456789") == "" {
		return
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return
	}
	full := reference.TagNameOnly(named).String()
	if !r.seen[full] {
		r.seen[full] = true
		r.all = append(r.all, full)
	}
}
