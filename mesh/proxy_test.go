package mesh_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sampan.dev/sampan/mesh"
)

func TestBodiesArriveWhole(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Framing", fmt.Sprint(r.ContentLength, r.TransferEncoding))
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.Write(body)
	})
	for _, size := range []int{0, 1, 4095, 32 << 10, 32<<10 + 1, 1 << 20, 5 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for _, c := range []struct {
			about, path string
			reader      io.Reader
			framing     string
		}{
			{"of known length", "/?length", bytes.NewReader(body), fmt.Sprint(size, " []")},
			{"answered in chunks", "/", bytes.NewReader(body), fmt.Sprint(size, " []")},
			{"sent in chunks", "/?length", io.MultiReader(bytes.NewReader(body)), "-1 [chunked]"},
		} {
			if size == 0 && c.framing[0] == '-' {
				continue // net/http's client sends no empty chunked body
			}
			resp, got := do(t, request(t, m, http.MethodPost, "app.localhost", c.path, c.reader))
			if resp.StatusCode != 200 || got != string(body) || resp.Header.Get("Framing") != c.framing {
				t.Errorf("%d bytes %s: status %d, %d bytes, framing %s", size, c.about, resp.StatusCode, len(got), resp.Header.Get("Framing"))
			}
		}
	}
	s := m.Stats("app")
	if s.InFlight != 0 || s.Status[2] != s.Requests || s.In == 0 || s.In != s.Out {
		t.Errorf("counted %d requests, %v, %d bytes in, %d out, %d in flight", s.Requests, s.Status, s.In, s.Out, s.InFlight)
	}
}

func TestMethodsAndStatusesPassThrough(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Method", r.Method)
		w.WriteHeader(status)
		if status != 204 && status != 304 {
			fmt.Fprint(w, "body")
		}
	})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		for _, status := range []int{200, 204, 304, 302, 404, 500} {
			resp, body := do(t, request(t, m, method, "app.localhost", "/"+strconv.Itoa(status), nil))
			want := "body"
			if method == "HEAD" || status == 204 || status == 304 {
				want = ""
			}
			if resp.StatusCode != status || resp.Header.Get("Method") != method || body != want {
				t.Errorf("%s %d: got %d %q", method, status, resp.StatusCode, body)
			}
		}
	}
}

// seen is what a backend gets to see.
func seen(w http.ResponseWriter, r *http.Request) {
	h := r.Header.Clone()
	h.Set("Host", r.Host)
	h.Set("Uri", r.RequestURI)
	json.NewEncoder(w).Encode(h)
}

func TestBackendsSeeWhoAsks(t *testing.T) {
	for _, c := range []struct {
		about   string
		trusted []string
		sent    http.Header
		want    map[string]string
	}{
		{"a stranger's claims are dropped", nil, http.Header{
			"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}, "Forwarded": {"for=1.2.3.4"},
			"X-Real-Ip": {"1.2.3.4"}, "X_forwarded_for": {"1.2.3.4"}, "X-Forwarded-Prefix": {"/admin"},
		}, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "app.localhost", "Forwarded": "",
			"X-Real-Ip": "", "X_forwarded_for": "", "X-Forwarded-Prefix": "",
		}},
		{"a trusted proxy's are kept", []string{"127.0.0.0/8"}, http.Header{
			"X-Forwarded-For": {"1.2.3.4"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"blog.example"},
		}, map[string]string{
			"X-Forwarded-For": "1.2.3.4, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "blog.example",
		}},
		{"what is for this hop stays here", nil, http.Header{
			"Connection": {"X-Secret, keep-alive"}, "X-Secret": {"1"}, "Keep-Alive": {"5"}, "Proxy-Authorization": {"x"}, "Te": {"trailers"},
		}, map[string]string{"Connection": "", "X-Secret": "", "Keep-Alive": "", "Proxy-Authorization": "", "Te": ""}},
		{"HTTP/2 is not switched to behind our back", nil, http.Header{
			"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}, "Http2-Settings": {"AAMAAABkAAQAoAAAAAIAAAAA"},
		}, map[string]string{"Connection": "", "Upgrade": "", "Http2-Settings": ""}},
		{"everything else passes", nil, http.Header{
			"User-Agent": {"test"}, "Cookie": {"a=b"}, "X-Request-Id": {"my-id.7"}, "Authorization": {"Bearer x"},
		}, map[string]string{
			"Host": "app.localhost", "User-Agent": "test", "Cookie": "a=b", "X-Request-Id": "my-id.7", "Authorization": "Bearer x",
			"Uri": "/a%2Fb/../c;d?x=%20y&z",
		}},
	} {
		m := open(t, mesh.Config{Trusted: c.trusted})
		app(t, m, seen)
		r := request(t, m, http.MethodGet, "app.localhost", "/a%2Fb/../c;d?x=%20y&z", nil)
		r.Header = c.sent
		_, body := do(t, r)
		var got http.Header
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(c.about, err, body)
		}
		for name, want := range c.want {
			if have := strings.Join(got[name], "|"); have != want {
				t.Errorf("%s: %s is %q, want %q", c.about, name, have, want)
			}
		}
	}
}

func TestRequestIDsAreHarmless(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Request-Id")) })
	for _, given := range []string{"", "a b", "<script>", strings.Repeat("x", 65)} {
		r := request(t, m, http.MethodGet, "app.localhost", "/", nil)
		if given != "" {
			r.Header.Set("X-Request-Id", given)
		}
		resp, got := do(t, r)
		if len(got) != 32 || resp.Header.Get("X-Request-Id") != got {
			t.Errorf("%q became %q for the backend and %q for the client", given, got, resp.Header.Get("X-Request-Id"))
		}
	}
}

func TestTrailersAndEarlyHintsPass(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "Sum")
		fmt.Fprint(w, "hello")
		w.(http.Flusher).Flush()
		w.Header().Set("Sum", "5")
	})
	resp, body := get(t, m, "app.localhost", "/")
	if body != "hello" || resp.Trailer.Get("Sum") != "5" || resp.StatusCode != 200 {
		t.Errorf("got %d %q, trailer %v", resp.StatusCode, body, resp.Trailer)
	}
}

func TestEventsArriveAtOnce(t *testing.T) {
	m := open(t, mesh.Config{})
	next := make(chan string)
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for event := range next {
			fmt.Fprintf(w, "data: %s\n\n", event)
			w.(http.Flusher).Flush()
		}
	})
	resp, err := http.DefaultTransport.RoundTrip(request(t, m, http.MethodGet, "app.localhost", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, event := range []string{"one", "two", "three"} {
		next <- event
		if lines.Scan(); lines.Text() != "data: "+event {
			t.Fatalf("got %q", lines.Text())
		}
		lines.Scan()
	}
	close(next)
}

func TestAnswersBeforeTheBodyIsThere(t *testing.T) {
	m := open(t, mesh.Config{})
	b := script(t, after("HTTP/1.1 413 Too Large\r\nContent-Length: 16\r\n\r\ntoo large for me"))
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{b}})
	body, sender := io.Pipe()
	defer sender.Close()
	go sender.Write(make([]byte, 64<<10))
	resp, got := do(t, request(t, m, http.MethodPost, "app.localhost", "/", body))
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(got, "too large for me") {
		t.Errorf("got %d %q", resp.StatusCode, got)
	}
}

func TestBothWaysAtOnce(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
			w.(http.Flusher).Flush()
		}
	})
	body, sender := io.Pipe()
	resp, err := http.DefaultTransport.RoundTrip(request(t, m, http.MethodPost, "app.localhost", "/", body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, word := range []string{"one", "two"} {
		fmt.Fprintln(sender, word)
		if lines.Scan(); lines.Text() != "heard "+word {
			t.Fatalf("got %q", lines.Text())
		}
	}
	sender.Close()
	if lines.Scan() {
		t.Errorf("then %q", lines.Text())
	}
}

// script is a backend that does with each connection what it is told.
func script(t testing.TB, answer func(net.Conn)) mesh.Backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				stop := context.AfterFunc(ctx, func() { c.Close() })
				defer stop()
				answer(c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		all.Wait()
	})
	return mesh.Backend{ID: "script", Addr: l.Addr().String()}
}

// after reads a request's header and then sends text.
func after(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, text)
		}
	}
}

func TestBackendsThatMisbehave(t *testing.T) {
	for _, c := range []struct {
		about, sends string
		status       int // 0: the response must break off
		body         string
	}{
		{"hangs up", "", 502, ""},
		{"speaks something else", "SSH-2.0-OpenSSH_9.2\r\n", 502, ""},
		{"sends a header without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10), 502, ""},
		{"sends interim responses without end", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), 502, ""},
		{"switches protocols unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 502, ""},
		{"promises more than it sends", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", 0, ""},
		{"breaks off in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort", 0, ""},
		{"speaks HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nold", 200, "old"},
		{"ends its body by hanging up", "HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end"},
		{"sends more than it promised", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Oops\r\n\r\n", 200, "ok"},
		{"continues first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
	} {
		t.Run(c.about, func(t *testing.T) {
			m := open(t, mesh.Config{})
			m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{script(t, after(c.sends))}})
			resp, err := http.DefaultTransport.RoundTrip(request(t, m, http.MethodGet, "app.localhost", "/", nil))
			if err != nil {
				if c.status != 0 {
					t.Fatal(err)
				}
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if c.status == 0 {
				if err == nil {
					t.Errorf("a broken response looks whole: %d %q", resp.StatusCode, body)
				}
				return
			}
			if resp.StatusCode != c.status || (c.body != "" && string(body) != c.body) || err != nil {
				t.Errorf("got %d %q %v", resp.StatusCode, body, err)
			}
		})
	}
}

func TestClosedIdleConnectionsAreNotNoticed(t *testing.T) {
	m := open(t, mesh.Config{})
	// Answers once on each connection, claims to keep it, and hangs up.
	b := script(t, after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{b}})
	for i := range 50 {
		method := []string{"GET", "PUT", "DELETE"}[i%3]
		resp, body := do(t, request(t, m, method, "app.localhost", "/", nil))
		if resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, body)
		}
	}
}

func TestLargeDownloadsAreExact(t *testing.T) {
	m := open(t, mesh.Config{})
	block := bytes.Repeat([]byte("large"), 10000)
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		for range 200 {
			w.Write(block)
		}
	})
	resp, err := http.DefaultTransport.RoundTrip(request(t, m, http.MethodGet, "app.localhost", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, resp.Body)
	for range 200 {
		want.Write(block)
	}
	if err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
