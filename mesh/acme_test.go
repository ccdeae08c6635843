package mesh_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sampan.dev/sampan/mesh"
)

// Pebble is Let's Encrypt's own small authority for tests. It looks names up in a DNS server
// of the test, for which every name is this machine, and then asks the front door.
func TestCertificatesComeByACME(t *testing.T) {
	if _, err := exec.LookPath("pebble"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("pebble is missing: install the package pebble")
		}
		t.Skip("pebble is not installed")
	}
	plain, encrypted := freePort(t), freePort(t)
	authority, trust := startPebble(t, plain, encrypted)
	dir := t.TempDir()
	m := open(t, mesh.Config{
		Addr: fmt.Sprint("127.0.0.1:", plain), TLSAddr: fmt.Sprint("127.0.0.1:", encrypted), Domain: "team.test", Dir: dir,
		ACME: &mesh.ACME{Email: "ann@team.test", Directory: authority, Roots: trust},
	})
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.team.test"}, Backends: []mesh.Backend{backend(t, say("app"))}})
	m.Main(http.HandlerFunc(say("main")))

	for _, host := range []string{"team.test", "app.team.test"} {
		cert := handshake(t, encrypted, host)
		if cert == nil || cert.VerifyHostname(host) != nil {
			t.Errorf("the certificate for %s is %v", host, cert)
		}
	}
	if cert := handshake(t, encrypted, "stranger.team.test"); cert != nil {
		t.Error("got a certificate for a name that is not served")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "acme", "certificates", "*", "*", "*.key")); len(files) != 2 {
		t.Errorf("kept %v", files)
	}
}

// handshake gives the certificate that host presents, nil when there is none.
func handshake(t *testing.T, port int, host string) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", port), &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		t.Log(err)
		return nil
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startPebble gives the URL of its directory and a file with the certificate to trust it by.
func startPebble(t *testing.T, plain, encrypted int) (directory, trust string) {
	t.Helper()
	cert, key, roots := selfSigned(t, "localhost")
	listen := fmt.Sprint("localhost:", freePort(t))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": fmt.Sprint("127.0.0.1:", freePort(t)),
		"certificate": cert, "privateKey": key, "httpPort": plain, "tlsPort": encrypted,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pebble", "-config", file, "-dnsserver", startDNS(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	directory = "https://" + listen + "/dir"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	for range 500 {
		if resp, err := client.Get(directory); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return directory, cert
		}
		time.Sleep(10 * time.Millisecond) // it says nowhere when it listens
	}
	t.Fatal("pebble does not answer")
	return "", ""
}

// startDNS answers every question for an address with 127.0.0.1.
func startDNS(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
			})
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return pc.LocalAddr().String()
}
