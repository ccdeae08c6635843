package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"sampan.dev/sampan/mesh"
)

// Each round replaces the only backend, drains the one before and stops it, as a deploy does.
// Not one request may notice.
func TestSwitchingBackendsUnderLoadIsNotNoticed(t *testing.T) {
	m := open(t, mesh.Config{})
	release := func(n int) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, n) }))
	}
	put := func(n int, s *httptest.Server) {
		m.Put(mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{{ID: fmt.Sprint(n), Addr: s.Listener.Addr().String()}}})
	}
	current := release(0)
	put(0, current)

	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 8 {
		load.Go(func() { keepAsking(ctx, t, m, i) })
	}
	const rounds = 60
	for n := 1; n <= rounds; n++ {
		next := release(n)
		put(n, next)
		if err := m.Drain(ctx, "app", fmt.Sprint(n-1)); err != nil {
			t.Error(err)
		}
		current.CloseClientConnections()
		current.Close()
		current = next
		for s := m.Stats("app"); m.Stats("app").Requests < s.Requests+20; {
			get(t, m, "app.localhost", "/") // let some requests pass between two deploys
		}
	}
	cancel()
	load.Wait()
	current.Close()
	if s := m.Stats("app"); s.Status[2] != s.Requests || s.Requests < 20*rounds {
		t.Errorf("of %d requests: %v", s.Requests, s.Status)
	}
}

// keepAsking makes one request after the other on a connection of its own; a POST is never
// repeated by net/http, nor by the front door.
func keepAsking(ctx context.Context, t *testing.T, m *mesh.Mesh, n int) {
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	for ctx.Err() == nil {
		r := request(t, m, []string{"GET", "POST"}[n%2], "app.localhost", "/", strings.NewReader([]string{"", "a=b"}[n%2]))
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || err != nil {
			t.Errorf("got %d %s, %v", resp.StatusCode, body, err)
			return
		}
	}
}

func TestDrainWaitsForWhatIsInFlight(t *testing.T) {
	m := open(t, mesh.Config{})
	entered, leave := make(chan struct{}), make(chan struct{})
	old := backend(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		fmt.Fprint(w, "old")
	})
	route := mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{old}}
	m.Put(route)
	if err := m.Drain(t.Context(), "app", old.ID); err == nil {
		t.Error("drained a backend that is still in the route")
	}

	answer := make(chan string)
	r := request(t, m, http.MethodGet, "app.localhost", "/", nil)
	go func() {
		_, body := do(t, r)
		answer <- body
	}()
	<-entered
	fresh := backend(t, say("new"))
	route.Backends = []mesh.Backend{fresh}
	m.Put(route)
	if _, body := get(t, m, "app.localhost", "/"); body != "new" {
		t.Errorf("after the switch: %q", body)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Drain(ended, "app", old.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("draining while a request is in flight: %v", err)
	}
	drained := make(chan error)
	go func() { drained <- m.Drain(t.Context(), "app", old.ID) }()
	close(leave)
	if body := <-answer; body != "old" {
		t.Errorf("the request in flight got %q", body)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := m.Drain(t.Context(), "app", "never heard of"); err != nil {
		t.Error(err)
	}
	m.Remove("app")
	if err := m.Drain(t.Context(), "app", fresh.ID); err != nil {
		t.Error(err)
	}
	if resp, _ := get(t, m, "app.localhost", "/"); resp.StatusCode != 404 {
		t.Errorf("after Remove: %d", resp.StatusCode)
	}
}

func TestRequestsSpreadAndAvoidTheRefusing(t *testing.T) {
	m := open(t, mesh.Config{})
	dead := httptest.NewServer(nil)
	dead.Close()
	route := mesh.Route{Name: "app", Hosts: []string{"app.localhost"}, Backends: []mesh.Backend{{ID: "dead", Addr: dead.Listener.Addr().String()}}}
	for i := range 3 {
		route.Backends = append(route.Backends, backend(t, say(fmt.Sprint(i))))
	}
	m.Put(route)
	var mu sync.Mutex
	answers := map[string]int{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 30 {
				r := request(t, m, http.MethodPost, "app.localhost", "/", nil)
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Error(err)
					return
				}
				body := make([]byte, 1)
				resp.Body.Read(body)
				resp.Body.Close()
				mu.Lock()
				answers[fmt.Sprint(resp.StatusCode, " ", string(body))]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for _, want := range []string{"200 0", "200 1", "200 2"} {
		if answers[want] < 20 {
			t.Errorf("answers: %v", answers)
		}
	}
	if len(answers) != 3 {
		t.Errorf("answers: %v", answers)
	}
}
