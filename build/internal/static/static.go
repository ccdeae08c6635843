// Package static builds sites of plain files: the files and a small program that serves them.
package static

import (
	"context"
	_ "embed"
	"path"
	"path/filepath"

	"sampan.dev/sampan/build/internal/golang"
	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/source"
)

// server is compiled once by the Go builder, so that it need not be carried along for each
// kind of processor.
//
//go:embed server/main.go
var server string

const (
	folder  = "public"
	program = "sampan-static"
	site    = "site" // where the files lie in the app
)

// A Builder builds static sites. It is safe for concurrent use.
type Builder struct{ compiler *golang.Builder }

// With makes a Builder that compiles its server with c.
func With(c *golang.Builder) *Builder { return &Builder{c} }

func (*Builder) Name() string { return "static" }

func (*Builder) Detect(t *source.Tree) (string, error) {
	switch {
	case t.Folder(folder):
		return "the directory public/", nil
	case t.File("index.html"):
		return "index.html at the root", nil
	}
	return "", nil
}

// Build puts the files beside the server.
func (b *Builder) Build(ctx context.Context, j *job.Job) (job.Product, error) {
	bin, base, err := b.compiler.Program(ctx, j, program, server)
	if err != nil {
		return job.Product{}, err
	}
	files := j.App
	if j.Source.Folder(folder) {
		files = filepath.Join(j.App, folder)
	}
	return job.Product{
		Base: base,
		Parts: []pack.Part{
			{Key: bin, Dir: bin, At: path.Join(pack.App, "bin")},
			{Dir: files, At: path.Join(pack.App, site)},
		},
		Processes: []job.Process{{Name: "web", Argv: []string{path.Join(pack.App, "bin", program), "-root", site}}},
	}, nil
}
