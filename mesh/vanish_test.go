package mesh_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/mesh"
)

// drained takes all backends from the route and waits: nothing may stay in flight.
func drained(t *testing.T, m *mesh.Mesh, b mesh.Backend) {
	t.Helper()
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Drain(ctx, "app", b.ID); err != nil {
		t.Error(err)
	}
}

func TestClientsThatVanish(t *testing.T) {
	for _, c := range []struct {
		about, sends string
		whole        bool // the backend gets a whole request
	}{
		{"waiting for the answer", "GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n", true},
		{"in a large body", "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 100000\r\n\r\npart", false},
		{"in a body of chunks", "POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", false},
	} {
		t.Run(c.about, func(t *testing.T) {
			m := open(t, mesh.Config{})
			entered, left := make(chan struct{}), make(chan error, 1)
			b := backend(t, func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				_, err := io.Copy(io.Discard, r.Body)
				if err == nil {
					<-r.Context().Done()
				}
				left <- err
			})
			m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{b}})
			client, err := net.Dial("tcp", m.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(client, c.sends)
			<-entered
			client.Close()
			if err := <-left; (err == nil) != c.whole {
				t.Errorf("the backend read the body with %v", err)
			}
			drained(t, m, b)
			if s := m.Stats("app"); s.Status[4] != 1 || s.Requests != 1 || s.InFlight != 0 {
				t.Errorf("counted %+v", s.Status)
			}
		})
	}
}

func TestSmallBodiesAreNotForwardedInParts(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(http.ResponseWriter, *http.Request) { t.Error("the backend was asked") })
	c, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 10\r\n\r\npart")
	c.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestExpectedContinueIsSent(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %q", body, r.Header.Get("Expect"))
	})
	c, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusContinue {
		t.Fatal(resp, err)
	}
	io.WriteString(c, "hello")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != `hello ""` {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestStatsTellEverySecond(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(500)
		}
		io.WriteString(w, "12345")
	})
	for range 9 {
		get(t, m, "app.localhost", "/")
	}
	do(t, request(t, m, http.MethodPost, "app.localhost", "/broken", strings.NewReader("123")))
	b := mesh.Backend{}
	drained(t, m, b) // statistics go on with the route
	s := m.Stats("app")
	if s.Requests != 10 || s.Status[2] != 9 || s.Status[5] != 1 || s.In != 3 || s.Out != 50 || s.InFlight != 0 {
		t.Errorf("counted %+v", s)
	}
	var requests, errors uint32
	var out, slow uint64
	for i, second := range s.Seconds {
		requests += second.Requests
		errors += second.Errors
		out += second.Out
		for _, n := range second.Latency {
			slow += uint64(n)
		}
		if i > 0 && second.At.Sub(s.Seconds[i-1].At) != time.Second {
			t.Errorf("second %d is at %v", i, second.At)
		}
	}
	if len(s.Seconds) != 300 || requests != 10 || errors != 1 || out != 50 || slow != 10 {
		t.Errorf("%d seconds: %d requests, %d errors, %d bytes, %d latencies", len(s.Seconds), requests, errors, out, slow)
	}
	if q := s.Latency.Quantile(0.5); q <= 0 || q > time.Second {
		t.Errorf("median %v", q)
	}
	if s := m.Stats("none"); s.Requests != 0 {
		t.Errorf("a route that does not exist: %+v", s)
	}
}

// FuzzReplies lets a backend answer with arbitrary bytes: the client gets a whole HTTP
// response or none, and the connection is not used for another request unless it is clean.
func FuzzReplies(f *testing.F) {
	m := open(f, mesh.Config{})
	answers := make(chan []byte, 1)
	b := script(f, func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.URL.Path == "/clean" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean")
				continue
			}
			select {
			case raw := <-answers:
				c.Write(raw)
			default:
			}
			return
		}
	})
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{b}})
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 204 No\r\nConnection: keep-alive\r\n\r\nrest",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "\x00\x01", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		answers <- raw
		if resp, err := http.DefaultTransport.RoundTrip(request(t, m, http.MethodPost, "app.localhost", "/", nil)); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if _, body := get(t, m, "app.localhost", "/clean"); body != "clean" {
			t.Errorf("after %q the next request got %q", raw, body)
		}
		select {
		case <-answers:
		default:
		}
	})
}
