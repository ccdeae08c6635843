// Package container is what Docker's API knows of containers and of the processes started in
// them (exec).
//
// A client's request becomes an engine.Spec, and is kept beside it with what the image and
// Docker's defaults added, so that inspect tells what was asked for. What can change later
// (limits, the restart policy, the name, networks) is told as the engine has it.
package container

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// A Service answers requests about containers. It is safe for concurrent use.
type Service struct {
	engine *engine.Engine
	log    *slog.Logger
}

// New answers from an engine.
func New(e *engine.Engine, log *slog.Logger) *Service { return &Service{engine: e, log: log} }

// Routes adds all of them.
func (s *Service) Routes(rt *api.Router) {
	for pattern, h := range map[string]api.Handler{
		"GET /containers/json":                       s.list,
		"POST /containers/create":                    s.create,
		"POST /containers/prune":                     s.prune,
		"GET /containers/{id}/json":                  s.inspect,
		"DELETE /containers/{id}":                    s.remove,
		"POST /containers/{id}/start":                s.start,
		"POST /containers/{id}/stop":                 s.stop,
		"POST /containers/{id}/restart":              s.restart,
		"POST /containers/{id}/kill":                 s.kill,
		"POST /containers/{id}/pause":                s.pause,
		"POST /containers/{id}/unpause":              s.unpause,
		"POST /containers/{id}/wait":                 s.wait,
		"POST /containers/{id}/rename":               s.rename,
		"POST /containers/{id}/update":               s.update,
		"GET /containers/{id}/top":                   s.top,
		"GET /containers/{id}/stats":                 s.stats,
		"GET /containers/{id}/logs":                  s.logs,
		"POST /containers/{id}/attach":               s.attach,
		"GET /containers/{id}/attach/ws":             s.attachWebsocket,
		"POST /containers/{id}/resize":               s.resize,
		"GET /containers/{id}/changes":               s.changes,
		"GET /containers/{id}/export":                s.export,
		"GET /containers/{id}/archive":               s.archive,
		"PUT /containers/{id}/archive":               s.extract,
		"POST /containers/{id}/exec":                 s.createExec,
		"POST /exec/{id}/start":                      s.startExec,
		"POST /exec/{id}/resize":                     s.resizeExec,
		"GET /exec/{id}/json":                        s.inspectExec,
		"POST /commit":                               s.commit,
		"GET /containers/{id}/checkpoints":           noCheckpoints,
		"POST /containers/{id}/checkpoints":          noCheckpoints,
		"DELETE /containers/{id}/checkpoints/{name}": noCheckpoints,
	} {
		rt.Handle(pattern, h)
	}
}

func noCheckpoints(http.ResponseWriter, *http.Request) error {
	return api.NotImplemented("checkpoints are not supported by this engine")
}

// find looks for the container that a request is about.
func (s *Service) find(r *http.Request) (engine.Container, error) {
	return s.findID(r.Context(), r.PathValue("id"))
}

// findID looks for a container. The words of the error are Docker's: scripts look for them.
func (s *Service) findID(ctx context.Context, id string) (engine.Container, error) {
	c, err := s.engine.Container(ctx, id)
	if fault.Is(err, fault.KindNotFound) {
		return c, errMissing(id)
	}
	return c, err
}

func errMissing(id string) error {
	return fault.NotFound("No such container: %s", strings.TrimPrefix(id, "/"))
}

// running says what Docker calls running: a container that waits for its next try is.
func running(c engine.Container) bool {
	switch c.State {
	case engine.Running, engine.Paused, engine.Restarting:
		return true
	}
	return false
}
