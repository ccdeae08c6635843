package golang

import (
	"context"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/internal/fault"
)

// MakeImage makes the image that a Dockerfile calls golang:tag: Debian and a Go release, but
// no C compiler.
func (b *Builder) MakeImage(ctx context.Context, j *job.Job, ref, tag string) error {
	release, err := releaseOf(tag)
	if err != nil {
		return err
	}
	t, err := b.toolchain(ctx, j, release)
	if err != nil {
		return err
	}
	root := t.root
	if link, err := filepath.EvalSymlinks(root); err == nil {
		root = link // where distributions keep it under another name
	}
	return j.Roots.MakeOnDebian(ctx, j.Out, ref, []pack.Part{{Dir: root, At: atRoot}},
		"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOPATH=/go", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
}

// releaseOf is the release that a tag of the image golang means: "1.26", "1.25.3-bookworm".
func releaseOf(tag string) (string, error) {
	number, system, _ := strings.Cut(tag, "-")
	if system != "" && system != "bookworm" || number == "alpine" {
		return "", fault.Unavailable("golang:%s cannot be made without a registry", tag).Try("use golang:%s", number)
	}
	own := Own()
	if number == "latest" || number == "bookworm" || own == "go"+number || strings.HasPrefix(own, "go"+number+".") {
		return own, nil
	}
	if !isRelease("go" + number) {
		return "", fault.Unavailable("golang:%s is no release of Go", tag).Try("use for example golang:%s", strings.TrimPrefix(own, "go"))
	}
	if strings.Count(number, ".") == 1 {
		number += ".0"
	}
	return "go" + number, nil
}
