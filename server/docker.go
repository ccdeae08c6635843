package server

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"path/filepath"

	"sampan.dev/sampan/engine/docker"
)

// noDocker is the setting that opens no socket.
const noDocker = "off"

// openDocker lets Docker's clients of this machine in. Who may write to the socket is root.
func (p *parts) openDocker(ctx context.Context) error {
	if p.engine == nil || p.cfg.Docker == noDocker {
		return nil
	}
	path, err := filepath.Abs(cmp.Or(p.cfg.Docker, filepath.Join(p.dir("run"), "docker.sock")))
	if err != nil {
		return fmt.Errorf("find the place of the Docker socket: %w", err)
	}
	l, err := docker.Listen(path)
	if err != nil {
		return err
	}
	face := docker.New(docker.Config{Engine: p.engine, Log: p.cfg.Log, Version: p.cfg.Version, Build: p.build.Docker()})
	p.opens("docker", func(ctx context.Context) error { return face.Serve(ctx, l) }, func() error { return closed(l) })
	p.dockerAt = path
	return nil
}

// closed closes a listener that its server may have closed before.
func closed(l net.Listener) error {
	l.Close()
	return nil
}
