package container

import (
	"context"
	"fmt"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

func (s *Service) createExec(w http.ResponseWriter, r *http.Request) error {
	var in container.ExecCreateRequest
	if err := api.Decode(r, &in); err != nil {
		return err
	}
	if len(in.Cmd) == 0 {
		return fault.Invalid("No exec command specified")
	}
	if _, err := parseKeys(in.DetachKeys); err != nil {
		return err
	}
	c, err := s.find(r)
	if err != nil {
		return err
	}
	if err := enterable(c); err != nil {
		return err
	}
	spec := engine.ExecSpec{
		Command: in.Cmd, Env: in.Env, WorkDir: in.WorkingDir, User: in.User, TTY: in.Tty, Privileged: in.Privileged,
		Stdin: in.AttachStdin, Stdout: in.AttachStdout, Stderr: in.AttachStderr, DetachKeys: in.DetachKeys,
	}
	if in.Tty && in.ConsoleSize != nil && api.AtLeast(r, "1.42") {
		spec.Size = sizeOf(*in.ConsoleSize)
	}
	x, err := s.engine.CreateExec(r.Context(), c.ID, spec)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusCreated, container.ExecCreateResponse{ID: x.ID})
}

// sizeOf reads a terminal's height and width.
func sizeOf(size [2]uint) engine.Size {
	return engine.Size{Rows: uint16(size[0]), Columns: uint16(size[1])}
}

// enterable refuses containers that no process can be started in.
func enterable(c engine.Container) error {
	switch c.State {
	case engine.Running:
		return nil
	case engine.Paused:
		return fault.Conflict("container %s is paused, unpause the container before exec", c.ID)
	case engine.Restarting:
		return fault.Conflict("Container %s is restarting, wait until the container is running", c.ID)
	}
	return fault.Conflict("container %s is not running", c.ID)
}

func (s *Service) findExec(r *http.Request) (engine.Exec, error) {
	id := r.PathValue("id")
	x, err := s.engine.FindExec(r.Context(), id)
	if fault.Is(err, fault.KindNotFound) {
		return x, fault.NotFound("No such exec instance: %s", id)
	}
	return x, err
}

func (s *Service) startExec(w http.ResponseWriter, r *http.Request) error {
	var in container.ExecStartRequest
	if _, err := api.DecodeOptional(r, &in); err != nil {
		return err
	}
	x, err := s.findExec(r)
	if err != nil {
		return err
	}
	c, err := s.findID(r.Context(), x.Container)
	if err != nil {
		return err
	}
	if err := enterable(c); err != nil {
		return err
	}
	if x.Running || x.Exit != nil {
		return fault.Conflict("exec %s has already run", x.ID).Try("create another one")
	}
	if in.Detach {
		return s.engine.DetachExec(r.Context(), x.ID)
	}
	conn, err := api.Hijack(w, r, !in.Tty)
	if err != nil {
		return err
	}
	return s.runExec(r.Context(), x, in, conn)
}

// runExec goes on when the client leaves: the process does, too. What cannot be started is said
// where the process's output would be, and clients read the exit code.
func (s *Service) runExec(ctx context.Context, x engine.Exec, in container.ExecStartRequest, conn wire) error {
	t := &terminal{wire: conn, closes: !x.Spec.TTY, leave: func() { _ = conn.CloseWrite() }}
	if x.Spec.TTY {
		keys, err := parseKeys(x.Spec.DetachKeys)
		if err != nil {
			return err
		}
		t.keys = &watcher{keys: keys}
	}
	streams := t.streams(x.Spec.Stdin, x.Spec.Stdout, x.Spec.Stderr, in.Tty)
	over, err := s.engine.StartExec(ctx, x.ID, streams)
	if err != nil {
		if streams.Stdout != nil {
			fmt.Fprintf(streams.Stdout, "%v\r\n", err)
		}
		conn.Finish(func() {})
		return nil
	}
	if x.Spec.TTY && in.ConsoleSize != nil {
		_ = s.engine.ResizeExec(ctx, x.ID, sizeOf(*in.ConsoleSize)) // it may have ended
	}
	return t.serve(ctx, streams, over)
}

func (s *Service) resizeExec(w http.ResponseWriter, r *http.Request) error {
	size, err := terminalSize(r)
	if err != nil {
		return err
	}
	x, err := s.findExec(r)
	if err != nil {
		return err
	}
	return s.engine.ResizeExec(r.Context(), x.ID, size)
}

func (s *Service) inspectExec(w http.ResponseWriter, r *http.Request) error {
	x, err := s.findExec(r)
	if err != nil {
		return err
	}
	out := container.ExecInspectResponse{
		ID: x.ID, Running: x.Running, OpenStdin: x.Spec.Stdin, OpenStderr: x.Spec.Stderr, OpenStdout: x.Spec.Stdout,
		ContainerID: x.Container, Pid: x.Pid, DetachKeys: []byte{},
		ProcessConfig: &container.ExecProcessConfig{
			Tty: x.Spec.TTY, Entrypoint: x.Spec.Command[0], Arguments: full(x.Spec.Command[1:]), Privileged: &x.Spec.Privileged, User: x.Spec.User,
		},
	}
	if x.Spec.DetachKeys != "" {
		if out.DetachKeys, err = parseKeys(x.Spec.DetachKeys); err != nil {
			return err
		}
	}
	if x.Exit != nil {
		out.ExitCode = &x.Exit.Code
	}
	return api.JSON(w, http.StatusOK, out)
}
