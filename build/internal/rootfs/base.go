package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/step"
	"sampan.dev/sampan/internal/fault"
)

// Busybox is the name of the image with that program.
const Busybox = "docker.io/library/busybox:latest"

// Base sees to it that an image which a Dockerfile names is here: it is, or a registry has
// it, or make makes it. make is nil where nobody knows how.
func (s *Store) Base(ctx context.Context, out *step.Output, ref string, make func() error) error {
	done, err := s.turns.Take(ctx, "base "+ref)
	if err != nil {
		return err
	}
	defer done()
	if known, err := s.known(ctx, ref); known || err != nil {
		return err
	}
	out.Step("Pulling %s", ref)
	failed := s.pull(ctx, ref)
	if failed == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if make == nil {
		return fault.Unavailable("the image %s is not here and cannot be pulled: %w", ref, failed).
			Try("check its name and the server's network; without a registry there are debian:%s-slim, busybox, golang and node", Release)
	}
	out.Detail("no registry has it: it is made on this machine")
	return make()
}

// MakeDebian names the Debian image ref.
func (s *Store) MakeDebian(ctx context.Context, out *step.Output, ref string) error {
	name, err := s.Debian(ctx, out)
	if err != nil || name == ref {
		return err
	}
	return s.engine.Tag(ctx, name, ref)
}

// MakeOnDebian makes ref of Debian and parts.
func (s *Store) MakeOnDebian(ctx context.Context, out *step.Output, ref string, parts []pack.Part, env ...string) error {
	base, err := s.Debian(ctx, out)
	if err != nil {
		return err
	}
	trust, err := s.trust()
	if err != nil {
		return err
	}
	return s.assemble(ctx, ref, base, append(trust, parts...), env...)
}

// MakeBusybox makes ref of Debian's busybox-static: one program under its many names.
func (s *Store) MakeBusybox(ctx context.Context, out *step.Output, ref string) error {
	tmp, err := os.MkdirTemp(s.dir, "busybox-")
	if err != nil {
		return fmt.Errorf("make a busybox image: %w", err)
	}
	defer os.RemoveAll(tmp)
	packages := filepath.Join(tmp, "packages")
	if err := s.mmdebstrap(ctx, out, tmp, packages, "--variant=extract", "--include=busybox-static"); err != nil {
		return fault.Unavailable("busybox cannot be made: %w", err).Try("give the server a registry or a Debian mirror, and install mmdebstrap")
	}
	found, err := filepath.Glob(filepath.Join(packages, "*bin", "busybox"))
	if err == nil && len(found) == 0 {
		found, err = filepath.Glob(filepath.Join(packages, "usr", "*bin", "busybox"))
	}
	if err != nil || len(found) == 0 {
		return fmt.Errorf("make a busybox image: no busybox in its package: %w", err)
	}
	root := filepath.Join(tmp, "root")
	if err := s.busybox(ctx, root, found[0]); err != nil {
		return fmt.Errorf("make a busybox image: %w", err)
	}
	return s.assemble(ctx, ref, "", []pack.Part{{Dir: root, At: "/"}}, path)
}

// busybox lays the program out; it names its own applets.
func (s *Store) busybox(ctx context.Context, root, program string) error {
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	applets, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return err
	}
	err = s.write(root, map[string][]byte{
		"bin/busybox": text,
		"etc/passwd":  []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		"etc/group":   []byte("root:x:0:\nnobody:x:65534:\n"),
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(root, "bin/busybox"), 0o755); err != nil {
		return err
	}
	for name := range bytes.Lines(applets) {
		name := strings.TrimSpace(string(name))
		if name == "" || name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}
