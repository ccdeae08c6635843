package mesh_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"sampan.dev/sampan/mesh"
)

// h2c is a client that speaks HTTP/2 without TLS and without asking first.
func h2c(t *testing.T) *http.Transport {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestHTTP2ClientsReachHTTP1Backends(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Proto, r.Host, len(body))
	})
	tr := h2c(t)
	for _, size := range []int{0, 10, 1 << 20} {
		r := request(t, m, http.MethodPost, "app.localhost", "/", strings.NewReader(strings.Repeat("x", size)))
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprint("HTTP/1.1 app.localhost ", size); resp.Proto != "HTTP/2.0" || string(body) != want || err != nil {
			t.Errorf("got %s %q, want %q; %v", resp.Proto, body, want, err)
		}
	}
}

func TestTLSSpeaksHTTP2AndPlainRedirects(t *testing.T) {
	cert, key, roots := selfSigned(t, "team.example", "*.team.example")
	m := open(t, mesh.Config{Domain: "team.example", TLSAddr: "127.0.0.1:0", CertFile: cert, KeyFile: key})
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.team.example"}, Backends: []mesh.Backend{backend(t, seen)}})
	url := m.URL("app.team.example")
	resp, _ := get(t, m, "app.team.example", "/a?b=c")
	if resp.StatusCode != http.StatusPermanentRedirect || resp.Header.Get("Location") != url+"/a?b=c" {
		t.Errorf("plain HTTP: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	for _, proto := range []string{"HTTP/2.0", "HTTP/1.1"} {
		tr := &http.Transport{
			ForceAttemptHTTP2: proto == "HTTP/2.0",
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(addr)
				return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
			},
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if resp.Proto != proto || !strings.Contains(string(body), `"X-Forwarded-Proto":["https"]`) {
			t.Errorf("%s: got %s %s", proto, resp.Proto, body)
		}
	}
}

func dialGRPC(t *testing.T, m *mesh.Mesh) healthpb.HealthClient {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+m.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("app.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return healthpb.NewHealthClient(c)
}

func TestGRPCPasses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, states := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, states)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })

	m := open(t, mesh.Config{})
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{{ID: "1", Addr: l.Addr().String()}}})
	client := dialGRPC(t, m)

	if got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("a call: %v, %v", got, err)
	}
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("an error of the service: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "db"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{
		healthpb.HealthCheckResponse_SERVICE_UNKNOWN, healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		if want != healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
			states.SetServingStatus("db", want)
		}
		if got, err := watch.Recv(); err != nil || got.Status != want {
			t.Errorf("a stream: %v, %v, want %v", got, err, want)
		}
	}
	cancel()
	if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after cancelling: %v", err)
	}

	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Why: "It is being deployed."})
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without a backend: %v", err)
	}
	drained, stop := context.WithCancel(t.Context())
	defer stop()
	if err := m.Drain(drained, "app", "1"); err != nil {
		t.Error(err)
	}
}
