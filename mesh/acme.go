package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"sampan.dev/sampan/internal/fault"
)

// ACME (RFC 8555) says which authority certificates come from. Setting it agrees to the
// authority's terms.
type ACME struct {
	Email     string // the authority writes there when something is wrong
	Directory string // default: Let's Encrypt
	Roots     string // PEM file, for a private authority
}

// acme gets a certificate at the first handshake for a name that is served here, keeps it in
// the data directory and renews it in time.
type acme struct {
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

func (m *Mesh) openACME() (certificates, error) {
	if m.cfg.Domain == "localhost" || m.cfg.Dir == "" {
		return nil, fault.Invalid("no authority gives a certificate for %s", m.cfg.Domain).
			Try("set domain to a name that leads here from the internet, or https to nothing").On("domain")
	}
	roots, err := readRoots(m.cfg.ACME.Roots)
	if err != nil {
		return nil, err
	}
	a := new(acme)
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           zap.NewNop(),
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:  &certmagic.FileStorage{Path: filepath.Join(m.cfg.Dir, "acme")},
		OnDemand: &certmagic.OnDemandConfig{DecisionFunc: m.decide},
		OnEvent:  m.certificateEvent,
		Logger:   zap.NewNop(),
	})
	a.issuer = certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: or(m.cfg.ACME.Directory, certmagic.LetsEncryptProductionCA), Email: m.cfg.ACME.Email,
		Agreed: true, TrustedRoots: roots, Logger: zap.NewNop(),
	})
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil, fault.Invalid("the authority's certificates cannot be read from %s", file).
			Try("set acme.roots to a PEM file").On("acme.roots")
	}
	return pool, nil
}

func (m *Mesh) decide(_ context.Context, name string) error {
	if !m.table.Load().certifiable(name) {
		return fmt.Errorf("%s is not served here", name)
	}
	return nil
}

func (m *Mesh) certificateEvent(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		m.log.Info("got a certificate", "host", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		m.log.Error("cannot get a certificate", "host", data["identifier"], "error", data["error"])
	}
	return nil
}

func (a *acme) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.config.GetCertificate(hello)
}

func (a *acme) protocols() []string { return []string{"h2", "http/1.1", "acme-tls/1"} }

func (a *acme) challenge(next http.Handler) http.Handler { return a.issuer.HTTPChallengeHandler(next) }

func (a *acme) close() { a.cache.Stop() }
