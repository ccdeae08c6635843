package mesh

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// certificates is where the TLS listener gets them: from files or by ACME.
type certificates interface {
	certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	protocols() []string
	// challenge answers what the authority asks on plain HTTP, and hands on the rest.
	challenge(http.Handler) http.Handler
	close()
}

func (m *Mesh) openCertificates() (certificates, error) {
	switch {
	case m.cfg.CertFile != "" || m.cfg.KeyFile != "":
		return openFiles(m.cfg.CertFile, m.cfg.KeyFile)
	case m.cfg.ACME != nil:
		return m.openACME()
	}
	return nil, fault.Invalid("https has no certificate").
		Try("set tls.cert and tls.key, or acme.email to get certificates by ACME").On("https")
}

// redirect sends browsers to the same page over TLS.
func (m *Mesh) redirect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	http.Redirect(w, r, m.URL(hostname(r.Host))+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = 10 * time.Second

// files serves one certificate, and a new one soon after the files were replaced.
type files struct {
	cert, key string

	mu     sync.Mutex
	looked time.Time
	stamp  [2]time.Time
	loaded *tls.Certificate
}

func openFiles(cert, key string) (*files, error) {
	f := &files{cert: cert, key: key, looked: time.Now(), stamp: stamps(cert, key)}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fault.Invalid("the certificate cannot be used: %w", err).
			Try("set tls.cert to a PEM file with the certificate and its chain, and tls.key to its key").On("tls.cert")
	}
	f.loaded = &pair
	return f, nil
}

func stamps(names ...string) (out [2]time.Time) {
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			out[i] = info.ModTime()
		}
	}
	return out
}

// certificate keeps serving the old pair while the new one is half written.
func (f *files) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) > lookEvery {
		f.looked = now
		if s := stamps(f.cert, f.key); s != f.stamp {
			if pair, err := tls.LoadX509KeyPair(f.cert, f.key); err == nil {
				f.loaded, f.stamp = &pair, s
			}
		}
	}
	return f.loaded, nil
}

func (f *files) protocols() []string                      { return []string{"h2", "http/1.1"} }
func (f *files) challenge(next http.Handler) http.Handler { return next }
func (f *files) close()                                   {}

// certifiable says whether a certificate may be asked for: only for names that are served
// here, or a stranger could spend our allowance on names of his own.
func (t *table) certifiable(host string) bool {
	host = canonical(host)
	if net.ParseIP(host) != nil {
		return false
	}
	if host == t.domain {
		return true
	}
	if _, ok := t.hosts[host]; ok {
		return true
	}
	_, ok := t.suffix(host)
	return ok
}
