package mesh

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	headersWithin = 10 * time.Second // a client that sends its headers more slowly is cut off
	idleClient    = 2 * time.Minute
	maxHeaders    = 64 << 10
)

// A server is one listener with its http.Server.
type server struct {
	name     string
	http     *http.Server
	listener net.Listener
}

func (s server) serve() error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

// servers are those to run: the plain one and, with TLS, the encrypted one.
func (m *Mesh) servers(base context.Context) []server {
	if m.tls == nil {
		return []server{{"http", m.newServer(base, http.HandlerFunc(m.serve)), m.plain}}
	}
	encrypted := m.newServer(base, http.HandlerFunc(m.serve))
	encrypted.TLSConfig = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: m.certs.certificate,
		NextProtos:     m.certs.protocols(),
	}
	return []server{
		{"http", m.newServer(base, m.certs.challenge(http.HandlerFunc(m.redirect))), m.plain},
		{"https", encrypted, m.tls},
	}
}

func (m *Mesh) newServer(base context.Context, h http.Handler) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true) // for clients that know beforehand, such as gRPC's
	return &http.Server{
		Handler:                      h,
		Protocols:                    &p,
		ReadHeaderTimeout:            headersWithin,
		IdleTimeout:                  idleClient,
		MaxHeaderBytes:               maxHeaders,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is the backend's to answer
		BaseContext:                  func(net.Listener) context.Context { return base },
		// Broken handshakes and aborted requests are the clients' doing.
		ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
}
