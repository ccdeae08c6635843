package rootfs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/step"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// Release is the Debian release that images stand on.
const Release = "bookworm"

// DebianName is the image's name where a registry has it, and its name here.
const DebianName = "docker.io/library/debian:" + Release + "-slim"

// keyring holds the keys that Debian signs its packages with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// patience is how long a registry may take to give an image.
const patience = 5 * time.Minute

// Debian is an image of a small Debian: pulled where a registry answers, made from packages where none does.
func (s *Store) Debian(ctx context.Context, out *step.Output) (string, error) {
	done, err := s.turns.Take(ctx, DebianName)
	if err != nil {
		return "", err
	}
	defer done()
	if known, err := s.known(ctx, DebianName); known || err != nil {
		return DebianName, err
	}
	pulled := s.pull(ctx, DebianName)
	if pulled == nil || ctx.Err() != nil {
		return DebianName, ctx.Err()
	}
	out.Step("No registry answers: making debian:%s-slim from Debian's packages, which is kept for later builds", Release)
	if err := s.bootstrap(ctx, out); err != nil {
		return "", fault.Unavailable("debian:%s-slim can neither be pulled (%v) nor made: %w", Release, pulled, err).
			Try("give the server a registry or a Debian mirror, and install mmdebstrap")
	}
	return DebianName, nil
}

// pull asks a registry for an image.
func (s *Store) pull(ctx context.Context, ref string) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := s.engine.Pull(limited, ref, engine.PullOptions{}, nil)
	return err
}

// bootstrap makes the image: one layer whose files have no dates of today.
func (s *Store) bootstrap(ctx context.Context, out *step.Output) error {
	tmp, err := os.MkdirTemp(s.dir, "debian-")
	if err != nil {
		return fmt.Errorf("make a Debian image: %w", err)
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "root.tar")
	err = s.mmdebstrap(ctx, out, tmp, file, "--variant=minbase", "--include=ca-certificates,libatomic1,libstdc++6,netbase,tzdata",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright")
	if err != nil {
		return err
	}
	layer := engine.Layer{Open: func() (io.ReadCloser, error) { return os.Open(file) }}
	_, err = s.engine.Assemble(ctx, DebianName, "", []engine.Layer{layer}, engine.ImageConfig{Command: []string{"bash"}, Env: []string{path}})
	if err != nil {
		return fmt.Errorf("make a Debian image: %w", err)
	}
	return nil
}

// path is what images on Debian have.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// mmdebstrap runs the program of that name, with the mirrors of this machine, in tmp.
func (s *Store) mmdebstrap(ctx context.Context, out *step.Output, tmp, target string, args ...string) error {
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return fault.Unavailable("mmdebstrap is not installed").Try("install Debian's package mmdebstrap")
	}
	sources, err := debianSources("/etc/apt")
	if err != nil {
		return err
	}
	args = append(append([]string{"--quiet"}, args...), Release, target)
	cmd := exec.CommandContext(ctx, tool, append(args, sources...)...)
	cmd.Env = append(s.machine.Proxies(), "PATH="+s.machine.Get("PATH"), "SOURCE_DATE_EPOCH=0", "TMPDIR="+tmp, "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	lines := out.Lines()
	defer lines.Close()
	cmd.Stdout, cmd.Stderr = lines, lines
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mmdebstrap: %w", err)
	}
	return nil
}

// debianSources are lines for apt with the mirrors that this machine uses.
func debianSources(etc string) ([]string, error) {
	mirrors := map[string]string{} // by archive
	files, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range append([]string{filepath.Join(etc, "sources.list")}, files...) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, mirror := range mirrorsOf(text) {
			name := mirror[strings.LastIndexByte(mirror, '/')+1:]
			if mirrors[name] == "" {
				mirrors[name] = mirror
			}
		}
	}
	if mirrors["debian"] == "" {
		return nil, fault.Unavailable("this machine names no Debian mirror").Try("add one to %s/sources.list.d", etc)
	}
	line := func(mirror, suite string) string {
		return "deb [signed-by=" + keyring + "] " + mirror + " " + suite + " main"
	}
	lines := []string{line(mirrors["debian"], Release), line(mirrors["debian"], Release+"-updates")}
	if m := mirrors["debian-security"]; m != "" {
		lines = append(lines, line(m, Release+"-security"))
	}
	return lines, nil
}

// mirrorsOf finds the addresses in one of apt's lists of sources, old form or new.
func mirrorsOf(text []byte) []string {
	var all []string
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) == 0 || fields[0] != "deb" && fields[0] != "URIs:" {
			continue
		}
		for _, f := range fields[1:] {
			if strings.HasPrefix(f, "http://") || strings.HasPrefix(f, "https://") {
				all = append(all, strings.TrimRight(f, "/"))
			}
		}
	}
	return all
}

// Official is an image that a registry has under official, with this machine's certificates;
// where no registry answers it is Debian with parts.
func (s *Store) Official(ctx context.Context, out *step.Output, official, name string, parts func() ([]pack.Part, error)) (string, error) {
	ref := host + name
	done, err := s.turns.Take(ctx, ref)
	if err != nil {
		return "", err
	}
	defer done()
	if known, err := s.known(ctx, ref); known || err != nil {
		return ref, err
	}
	base, more := official, []pack.Part(nil)
	if err := s.pull(ctx, official); err != nil {
		if base, err = s.Debian(ctx, out); err != nil {
			return "", err
		}
		if more, err = parts(); err != nil {
			return "", err
		}
	}
	trust, err := s.trust()
	if err != nil {
		return "", err
	}
	return ref, s.assemble(ctx, ref, base, append(trust, more...), path)
}

func (s *Store) assemble(ctx context.Context, ref, base string, parts []pack.Part, env ...string) error {
	layers := pack.Layers(ctx, parts, time.Unix(0, 0))
	if _, err := s.engine.Assemble(ctx, ref, base, layers, engine.ImageConfig{Env: env}); err != nil {
		return fmt.Errorf("make the image %s: %w", ref, err)
	}
	return nil
}

// trust is a part with what every image needs to know about the outside.
func (s *Store) trust() ([]pack.Part, error) {
	from := s.machine.Certificates()
	if from == "" {
		return nil, nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, fmt.Errorf("read the certificates: %w", err)
	}
	files := map[string][]byte{filepath.Base(Certificates): text}
	dir := filepath.Join(s.dir, "trust-"+digest(files))
	if err := s.write(dir, files); err != nil {
		return nil, fmt.Errorf("keep the certificates: %w", err)
	}
	return []pack.Part{{Dir: dir, At: filepath.Dir(Certificates), Skip: "tmp"}}, nil
}
