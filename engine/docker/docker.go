// Package docker is the face of the engine that speaks the Docker Engine API, so that Docker's
// clients work with it as they are.
//
// It knows nothing that another user of package engine could not call. What a client asked for
// is kept with a container as it came, and so inspect returns it. Who reaches the API may do
// everything that root may on this machine; who that is decides the listener.
//
// Follows the Docker Engine API 1.24 to 1.56 (https://docs.docker.com/reference/api/engine/).
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/moby/moby/api/types/build"
	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/container"
	"sampan.dev/sampan/engine/docker/internal/image"
	"sampan.dev/sampan/engine/docker/internal/network"
	"sampan.dev/sampan/engine/docker/internal/system"
	"sampan.dev/sampan/engine/docker/internal/volume"
)

// Config of a Server. Engine is needed.
type Config struct {
	Engine  *engine.Engine
	Log     *slog.Logger // nil: nothing is logged
	Version string       // of this program
	Build   BuildHandler // nil: images are not built here
}

// A BuildHandler serves the routes by which images are built.
type BuildHandler interface {
	Routes(add func(pattern string, h func(http.ResponseWriter, *http.Request) error))
	Records(ctx context.Context) ([]build.CacheRecord, error) // of the cache
}

// A Server answers Docker's clients. It is safe for concurrent use.
type Server struct {
	router *api.Router
	log    *slog.Logger
}

// New makes a server of all routes.
func New(cfg Config) *Server {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	rt := api.NewRouter(log, cfg.Version)
	containers := container.New(cfg.Engine, log)
	containers.Routes(rt)
	image.New(cfg.Engine).Routes(rt)
	volume.New(cfg.Engine).Routes(rt)
	network.New(cfg.Engine).Routes(rt)
	about := system.Config{Engine: cfg.Engine, Version: cfg.Version, Containers: containers.Summaries}
	if cfg.Build != nil {
		about.Builds = cfg.Build.Records
		cfg.Build.Routes(func(pattern string, h func(http.ResponseWriter, *http.Request) error) { rt.Handle(pattern, h) })
	}
	system.New(about).Routes(rt)
	return &Server{router: rt, log: log}
}

// Handler answers requests of one client or many.
func (s *Server) Handler() http.Handler { return s.router }

// farewell is how long a request may take to notice that the server ends.
const farewell = 5 * time.Second

// Serve answers on l until ctx ends. The requests' contexts end with it, and it returns when all
// handlers have, so that nothing uses the engine any more.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var handlers sync.WaitGroup // those that took their connection are not the http.Server's any more
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			s.router.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the Docker API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	handlers.Wait()
	return err
}
