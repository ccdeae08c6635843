package node

import (
	"context"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/internal/fault"
)

// MakeImage makes the image that a Dockerfile calls node:tag: Debian, Node and npm.
func (b *Builder) MakeImage(ctx context.Context, j *job.Job, ref, tag string) error {
	number, system, _ := strings.Cut(tag, "-")
	switch number {
	case "latest", "lts", "current", "bookworm", "slim":
		number = "*"
	}
	r, err := ParseRange(number)
	if err != nil || strings.Contains(tag, "alpine") || system != "" && system != "slim" && system != "bookworm" && system != "bookworm-slim" {
		return fault.Unavailable("node:%s cannot be made without a registry", tag).Try("use for example node:22-slim")
	}
	v, integrity, err := b.newest(ctx, j, binaries(), r)
	if err != nil {
		return err
	}
	parts, err := b.parts(ctx, j, v, integrity)
	if err != nil {
		return err
	}
	return j.Roots.MakeOnDebian(ctx, j.Out, ref, parts, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_VERSION="+v.String())
}
