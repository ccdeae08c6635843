package container

import (
	"context"
	"net/http"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// A session is what a client wants to see of a container.
type session struct {
	container             engine.Container
	stdin, stdout, stderr bool
	logs, stream          bool
	terminal              terminal
}

// attachable reads a request, and refuses what cannot be.
func (s *Service) attachable(r *http.Request) (*session, error) {
	keys, err := parseKeys(r.URL.Query().Get("detachKeys"))
	if err != nil {
		return nil, err
	}
	c, err := s.find(r)
	if err != nil {
		return nil, err
	}
	switch c.State {
	case engine.Paused:
		return nil, fault.Conflict("container %s is paused, unpause the container before attach", c.ID)
	case engine.Restarting:
		return nil, fault.Conflict("container %s is restarting, wait until the container is running", c.ID)
	}
	q, err := requestOf(c)
	if err != nil {
		return nil, err
	}
	a := &session{
		container: c, stdin: api.Bool(r, "stdin") && c.Spec.Stdin, stdout: api.Bool(r, "stdout"), stderr: api.Bool(r, "stderr"),
		logs: api.Bool(r, "logs"), stream: api.Bool(r, "stream"),
	}
	a.terminal.closes = q.Config.StdinOnce && !c.Spec.TTY
	if c.Spec.TTY {
		a.terminal.keys = &watcher{keys: keys}
	}
	return a, nil
}

func (s *Service) attach(w http.ResponseWriter, r *http.Request) error {
	a, err := s.attachable(r)
	if err != nil {
		return err
	}
	tty := a.container.Spec.TTY
	streams := a.terminal.streams(a.stdin, a.stdout, a.stderr, tty)
	return s.connect(r.Context(), a, streams, func() (wire, error) { return api.Hijack(w, r, !tty) })
}

// connect is done when the run is over, or the client has left.
func (s *Service) connect(ctx context.Context, a *session, streams engine.Streams, dial func() (wire, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.terminal.leave = cancel
	over := func() (engine.Exit, error) { return engine.Exit{}, nil }
	if a.stream {
		var err error
		if over, err = s.engine.Attach(ctx, a.container.ID, streams); err != nil {
			return s.decline(a, err, dial)
		}
	}
	var err error
	if a.terminal.wire, err = dial(); err != nil {
		cancel()
		_, _ = over() // it only ends what was begun
		return err
	}
	if a.logs {
		p := logForm{stdout: streams.Stdout != nil, stderr: streams.Stderr != nil, out: streams.Stdout, err: streams.Stderr}
		err = s.replay(ctx, a.container, p)
	}
	if failed := a.terminal.serve(ctx, streams, over); failed != nil {
		return failed
	}
	return err
}

// decline ends the session of a container that cannot be made ready to run: the start that
// follows says why, and clients show that and not what attach says.
func (s *Service) decline(a *session, err error, dial func() (wire, error)) error {
	if running(a.container) {
		return err
	}
	s.log.Info("attached to a container that cannot run", "container", a.container.Name, "err", err)
	conn, failed := dial()
	if failed != nil {
		return err
	}
	conn.Finish(func() {})
	return nil
}
