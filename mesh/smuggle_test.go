package mesh_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan.dev/sampan/mesh"
)

// A recorder is a backend that keeps the bytes of every request, as a less strict server
// than net/http would see them.
type recorder struct {
	mu   sync.Mutex
	seen bytes.Buffer
	n    int
}

func (rec *recorder) serve(c net.Conn) {
	br := bufio.NewReader(io.TeeReader(c, rec))
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		rec.mu.Lock()
		rec.n++
		rec.mu.Unlock()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.seen.Write(p)
}

func (rec *recorder) take() (string, int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	defer rec.seen.Reset()
	n := rec.n
	rec.n = 0
	return rec.seen.String(), n
}

// exchange sends raw bytes to the front door and reads the answers until it hangs up. hangup:
// the sender hangs up first, and what it has asked for is given up.
func exchange(t testing.TB, m *mesh.Mesh, raw string, hangup bool) []int {
	t.Helper()
	c, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, raw)
	if hangup {
		c.(*net.TCPConn).CloseWrite()
	}
	var statuses []int
	for br := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return statuses
		}
		io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.StatusCode)
	}
}

func TestNoRequestHidesInAnother(t *testing.T) {
	m := open(t, mesh.Config{})
	rec := new(recorder)
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{script(t, rec.serve)}})
	const (
		hidden = "GET /hidden HTTP/1.1\r\nHost: app.localhost\r\n\r\n"
		close  = "Host: app.localhost\r\nConnection: close\r\n"
	)
	for _, c := range []struct {
		about, raw string
		status     string // of all answers
		has, hasnt string // in what the backend saw
	}{
		{"length and chunks: the chunks count, the length is dropped",
			"POST / HTTP/1.1\r\n" + close + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + hidden,
			"[200]", "Transfer-Encoding: chunked", "Content-Length"},
		{"two lengths", "POST / HTTP/1.1\r\n" + close + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello", "[400]", "", "POST"},
		{"two equal lengths are one", "POST / HTTP/1.1\r\n" + close + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "[200]", "Content-Length: 5\r\n", "5, 5"},
		{"a length with a sign", "POST / HTTP/1.1\r\n" + close + "Content-Length: +5\r\n\r\nhello", "[400]", "", "POST"},
		{"an unknown transfer coding", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "[501]", "", "POST"},
		{"chunked twice", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "[501]", "", "POST"},
		{"chunked and another", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "[501]", "", "POST"},
		{"a blank before the colon", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "[400]", "", "POST"},
		{"a folded field becomes one line", "GET / HTTP/1.1\r\n" + close + "X-Folded: one\r\n two\r\n\r\n", "[200]", "X-Folded: one two\r\n", "\n two"},
		{"a folded transfer coding counts", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + hidden,
			"[200]", "Transfer-Encoding: chunked\r\n", "hidden"},
		{"bare line feeds are written as CRLF", "GET / HTTP/1.1\nHost: app.localhost\nConnection: close\nX-A: b\n\n", "[200]", "X-A: b\r\n", "b\n"},
		{"a bare carriage return", "GET / HTTP/1.1\r\n" + close + "X-A: b\rX-B: c\r\n\r\n", "[400]", "", "GET"},
		{"a NUL in a value", "GET / HTTP/1.1\r\n" + close + "X-A: b\x00c\r\n\r\n", "[400]", "", "GET"},
		{"a chunk that is longer than it says", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", "", "", "hello"},
		{"a chunk extension is dropped", "POST / HTTP/1.1\r\n" + close + "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n", "[200]", "5\r\nhello", "x=y"},
		{"no host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "[400]", "", "GET"},
		{"two hosts", "GET / HTTP/1.1\r\n" + close + "Host: other.localhost\r\n\r\n", "[400]", "", "GET"},
		{"the host of an absolute address counts", "GET http://app.localhost/x HTTP/1.1\r\nHost: other.localhost\r\nConnection: close\r\n\r\n",
			"[200]", "GET /x HTTP/1.1\r\nHost: app.localhost\r\n", "other"},
		{"the asterisk stays", "OPTIONS * HTTP/1.1\r\n" + close + "\r\n", "[200]", "OPTIONS * HTTP/1.1\r\n", "hidden"},
		{"CONNECT is refused", "CONNECT app.localhost:22 HTTP/1.1\r\n" + close + "\r\n", "[400]", "", "CONNECT"},
		{"a version of the future", "GET / HTTP/3.7\r\n" + close + "\r\n", "[505]", "", "GET"},
		{"a path with a blank", "GET /a b HTTP/1.1\r\n" + close + "\r\n", "[400]", "", "GET"},
		{"what an upgrade does not get stays unsent", "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n" + hidden,
			"[200]", "Upgrade: websocket", "hidden"},
		{"two in a row are two", "GET /1 HTTP/1.1\r\nHost: app.localhost\r\n\r\nGET /2 HTTP/1.1\r\n" + close + "\r\n", "[200 200]", "GET /2", "hidden"},
		{"a header without end", "GET / HTTP/1.1\r\n" + close + "X: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", "[431]", "", "GET"},
	} {
		statuses := exchange(t, m, c.raw, false)
		saw, n := rec.take()
		if got := fmt.Sprint(statuses); c.status != "" && got != c.status {
			t.Errorf("%s: answered %s, want %s", c.about, got, c.status)
		}
		if !strings.Contains(saw, c.has) || strings.Contains(saw, c.hasnt) {
			t.Errorf("%s: the backend saw\n%q", c.about, saw)
		}
		if ok := strings.Count(c.status, "200"); c.status != "" && n != ok {
			t.Errorf("%s: the backend saw %d requests, %d were answered", c.about, n, ok)
		}
	}
}

// FuzzRequests sends arbitrary bytes through the real listener. Whatever the front door makes
// of them: the backend never sees more requests than the front door did.
func FuzzRequests(f *testing.F) {
	m := open(f, mesh.Config{})
	rec := new(recorder)
	m.Put(mesh.Route{Name: "app", Hosts: []string{"*.localhost"}, Backends: []mesh.Backend{script(f, rec.serve)}})
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: b.localhost\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a.localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"GET http://a.localhost/ HTTP/1.0\nConnection: keep-alive, x\nX: y\n z\n\n",
	} {
		f.Add([]byte(seed))
	}
	seen := 0
	f.Fuzz(func(t *testing.T, raw []byte) {
		exchange(t, m, string(raw), true)
		// Both only grow, and a request is counted before the backend has it.
		saw, n := rec.take()
		seen += n
		if s := m.Stats("app"); uint64(seen) > s.Requests+uint64(s.InFlight) {
			t.Errorf("%d requests came in, but the backend saw %d; the last:\n%q", s.Requests, seen, saw)
		}
	})
}

// FuzzHost asks for arbitrary hosts: only the app's own names may reach the app.
func FuzzHost(f *testing.F) {
	m := open(f, mesh.Config{Domain: "team.example"})
	app := make(chan struct{}, 1)
	m.Main(say("main"))
	m.Host("app.team.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { app <- struct{}{} }))
	for _, host := range []string{"app.team.example", "APP.team.example.:80", "[::1]:3000", "::1", "a:b:c", "", ".", "*.team.example"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		statuses := exchange(t, m, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n", true)
		select {
		case <-app:
			name, _, _ := strings.Cut(strings.TrimSpace(host), ":")
			if strings.ToLower(strings.TrimSuffix(name, ".")) != "app.team.example" {
				t.Errorf("%q reached the app", host)
			}
		default:
		}
		if len(statuses) > 0 && statuses[0] >= 500 && statuses[0] != 501 && statuses[0] != 505 {
			t.Errorf("%q: %v", host, statuses)
		}
	})
}
