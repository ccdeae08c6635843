// Package mesh is the front door: one HTTP listener, and one with TLS, that route by host.
//
// A route has hosts and backends. The main domain's pages are a handler in the same process;
// everything else is forwarded: HTTP/1.1 and HTTP/2 from clients, HTTP/1.1 (RFC 9112) to
// backends, protocol upgrades such as WebSocket as streams of bytes, gRPC over HTTP/2 from end
// to end. Every request is parsed by net/http and written anew for the backend, so that no
// two readers can see two different requests in one.
//
// The table of routes is replaced as a whole: a request sees the one before or the one after.
// A request is counted on its backend before anything is sent, so Drain waits for all of
// them. A Mesh is safe for concurrent use and keeps nothing on disk but certificates.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sampan.dev/sampan/internal/fault"
)

// Config says where to listen. The zero value listens on :3000 for localhost.
type Config struct {
	Addr     string       // HTTP, setting `http`; default :3000
	TLSAddr  string       // HTTP with TLS, setting `https`; empty: none
	Domain   string       // the main host; apps live at NAME.DOMAIN; default localhost
	CertFile string       // PEM, setting `tls.cert`; read again when it changes
	KeyFile  string       // PEM, setting `tls.key`
	ACME     *ACME        // where certificates come from when CertFile is empty
	Dir      string       // certificates got by ACME are kept here
	Trusted  []string     // CIDRs of proxies in front of us whose X-Forwarded headers are believed
	Log      *slog.Logger // default: discard
}

// grace is how long requests in flight may take when the server stops.
const grace = 3 * time.Second

// A Mesh is the open front door.
type Mesh struct {
	cfg     Config
	log     *slog.Logger
	trusted prefixes
	plain   net.Listener
	tls     net.Listener // nil without TLS
	certs   certificates // nil without TLS
	table   atomic.Pointer[table]
	http2   *http.Transport // to backends of gRPC
	page    *template.Template
	buffers buffers
	closing sync.Once

	// mu guards what changes the table: main, hosts, routes and those leaving.
	mu      sync.Mutex
	main    http.Handler
	hosts   map[string]http.Handler
	routes  map[string]*route
	leaving map[string][]*backend
}

// Open binds the listeners and serves nothing yet. A port that is taken is a fault that
// names the setting.
func Open(ctx context.Context, cfg Config) (*Mesh, error) {
	fill(&cfg)
	trusted, err := parsePrefixes(cfg.Trusted)
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		cfg: cfg, log: cfg.Log, trusted: trusted, http2: newHTTP2(), page: newPage(),
		hosts: map[string]http.Handler{}, routes: map[string]*route{}, leaving: map[string][]*backend{},
	}
	m.publish()
	if m.plain, err = listen(ctx, cfg.Addr, "http"); err != nil {
		return nil, err
	}
	if cfg.TLSAddr == "" {
		return m, nil
	}
	if m.tls, err = listen(ctx, cfg.TLSAddr, "https"); err == nil {
		m.certs, err = m.openCertificates()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func fill(cfg *Config) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Addr == "" {
		cfg.Addr = ":3000"
	}
	if cfg.Domain == "" {
		cfg.Domain = "localhost"
	}
	cfg.Domain = strings.ToLower(strings.TrimSuffix(cfg.Domain, "."))
}

// Addr is where the plain HTTP listener is bound.
func (m *Mesh) Addr() net.Addr { return m.plain.Addr() }

// URL is how a browser reaches host through this front door.
func (m *Mesh) URL(host string) string {
	scheme, usual, addr := "http", "80", m.plain.Addr()
	if m.tls != nil {
		scheme, usual, addr = "https", "443", m.tls.Addr()
	}
	if _, port, err := net.SplitHostPort(addr.String()); err == nil && port != usual {
		host = net.JoinHostPort(host, port)
	}
	return scheme + "://" + host
}

// Run serves until ctx ends; then requests in flight get a few seconds to finish.
func (m *Mesh) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	group, failed := errgroup.WithContext(ctx)
	servers := m.servers(base)
	for _, s := range servers {
		group.Go(func() error {
			if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", s.name, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		m.sweep(failed)
		m.shutdown(servers, cancel)
		return nil
	})
	return group.Wait()
}

// shutdown lets what is in flight end, then ends it.
func (m *Mesh) shutdown(servers []server, cancel context.CancelFunc) {
	ctx, done := context.WithTimeout(context.Background(), grace)
	defer done()
	var group errgroup.Group
	for _, s := range servers {
		group.Go(func() error { return s.http.Shutdown(ctx) })
	}
	if group.Wait() != nil {
		m.log.Info("ended requests that were still in flight")
	}
	cancel() // upgraded connections are no longer the server's
	for _, s := range servers {
		s.http.Close()
	}
}

// Close releases the listeners and connections to backends.
func (m *Mesh) Close() error {
	m.closing.Do(func() {
		m.plain.Close() // closed already when Run has ended
		if m.tls != nil {
			m.tls.Close()
		}
		if m.certs != nil {
			m.certs.close()
		}
		m.http2.CloseIdleConnections()
		m.closeIdle(0)
	})
	return nil
}

// sweep closes connections to backends that nobody has used for a while, until ctx ends.
func (m *Mesh) sweep(ctx context.Context) {
	tick := time.NewTicker(idleConnection / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.closeIdle(idleConnection)
		}
	}
}

// listen binds addr and says which setting is wrong when it cannot.
func listen(ctx context.Context, addr, setting string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	return nil, fault.Conflict("cannot listen on %s: %w", addr, reason(err)).
		Try("stop the program that holds that address, or set %s to another", setting).On(setting)
}

// reason is the innermost error: "address already in use" without the call that failed.
func reason(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
