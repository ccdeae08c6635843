// Package server opens the parts of Sampan, links them, runs them and closes them.
//
// It is the only package that knows all parts: parts.go is the list of them, links.go says
// how they meet. Open acquires everything from the lowest floor up and starts nothing; Run
// works until its context ends; Close releases from the top down. Containers live on.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Config says how a server is to be run. The zero value works.
type Config struct {
	Data     string // the directory that holds everything
	HTTP     string // address of the front door
	HTTPS    string // the same with TLS; "" for none
	SSH      string // address of git and consoles
	Domain   string // apps are served at NAME.Domain
	Database string // postgres://…, or "" for SQLite in Data
	Runner   string // auto, containers or processes
	Docker   string // path of the socket for Docker's clients; "" for Data/run/docker.sock, "off" for none
	KVClient string // address for etcd clients
	KVPeer   string // address for etcd peers

	Trusted string // networks of proxies in front, separated by commas

	TLSCert, TLSKey                     string // PEM files
	ACMEEmail, ACMEDirectory, ACMERoots string

	Dev     bool
	Version string
	Log     *slog.Logger
}

// Fill puts the defaults where nothing is set.
func (c *Config) Fill() {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Data, "data")
	set(&c.HTTP, ":3000")
	set(&c.SSH, ":2222")
	set(&c.Domain, "localhost")
	set(&c.Runner, "auto")
	set(&c.KVClient, "127.0.0.1:2379")
	set(&c.KVPeer, "127.0.0.1:2380")
	set(&c.Version, "dev")
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// A Server is all parts, open.
type Server struct {
	cfg   Config
	parts *parts
	lock  *os.File
}

// Open locks the data directory and opens all parts.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	cfg.Fill()
	lock, err := lockData(&cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock, parts: &parts{cfg: cfg}}
	if err := s.parts.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := link(s.parts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Run works until ctx ends, or until a part fails.
func (s *Server) Run(ctx context.Context) error {
	if err := s.announce(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range s.parts.opened {
		if p.run == nil {
			continue
		}
		group.Go(func() error {
			if err := p.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// Close releases everything; apps go on running.
func (s *Server) Close() error {
	err := s.parts.close()
	os.Remove(runFile(s.cfg.Data))
	return errors.Join(err, s.lock.Close())
}

// Hello is what a person reads when the server has started.
func (s *Server) Hello(ctx context.Context) (string, error) {
	data, err := filepath.Abs(s.cfg.Data)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  Sampan 舢板 %s\n\n", s.cfg.Version)
	fmt.Fprintf(&b, "  web    %s\n", s.parts.webURL())
	fmt.Fprintf(&b, "  git    %s\n", s.parts.sshURL())
	fmt.Fprintf(&b, "  apps   %s, %s\n", s.parts.appURL("NAME"), s.parts.runnerSays)
	if s.parts.dockerAt != "" {
		fmt.Fprintf(&b, "  docker unix://%s, for root and the group docker\n", s.parts.dockerAt)
	}
	fmt.Fprintf(&b, "  data   %s\n", data)
	code, err := s.parts.identity.SetupCode(ctx)
	if err != nil {
		return "", err
	}
	if code != "" {
		fmt.Fprintf(&b, "\n  Nobody is here yet. Make yourself an account with this link:\n  %s/-/setup?code=%s\n", s.parts.webURL(), code)
	}
	return b.String() + "\n", nil
}
