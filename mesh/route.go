package mesh

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

// A Route sends the requests for some hosts to some backends.
type Route struct {
	Name     string    // unique; an app's name
	Hosts    []string  // without port: "blog.example.com", "*.example.com"
	Backends []Backend // none: 503 with Why
	Why      string    // why there is no backend, in a sentence for the visitor
}

// A Backend is one instance. The same ID at another Addr is another backend.
type Backend struct {
	ID   string
	Addr string // host:port
}

// A route is a Route that is being served.
type route struct {
	Route
	backends []*backend
	stats    *stats
}

// Main sets the handler of everything that is no app's host.
func (m *Mesh) Main(h http.Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.main = h
	m.publish()
}

// Host sets the handler of one host, such as "deis.DOMAIN". It wins over routes.
func (m *Mesh) Host(host string, h http.Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hosts[canonical(host)] = h
	m.publish()
}

// Put makes or replaces the route of that name at once and for all requests to come. Backends
// that are no longer in it finish what they have in flight; see Drain. Its statistics go on.
func (m *Mesh) Put(r Route) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := &route{Route: r, stats: newStats()}
	var before []*backend
	if old := m.routes[r.Name]; old != nil {
		next.stats, before = old.stats, old.backends
	}
	for _, b := range r.Backends {
		next.backends = append(next.backends, keep(before, b))
	}
	m.routes[r.Name] = next
	m.publish()
	m.leave(r.Name, before, next.backends)
}

// Remove ends a route: its hosts are unknown from now on.
func (m *Mesh) Remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.routes[name]
	if old == nil {
		return
	}
	delete(m.routes, name)
	m.publish()
	m.leave(name, old.backends, nil)
}

// keep finds the backend among those served before, so that its connections and its count of
// requests in flight live on.
func keep(before []*backend, b Backend) *backend {
	for _, old := range before {
		if old.Backend == b {
			return old
		}
	}
	return newBackend(b)
}

// leave stops picking the backends that are not in the new table, which is published
// already: a request that picked one from the old table finds it leaving and picks again.
func (m *Mesh) leave(name string, before, after []*backend) {
	rest := slices.DeleteFunc(m.leaving[name], func(b *backend) bool { return b.idle() })
	for _, b := range before {
		if !slices.Contains(after, b) {
			b.leave()
			rest = append(rest, b)
		}
	}
	if m.leaving[name] = rest; len(rest) == 0 {
		delete(m.leaving, name)
	}
}

// Drain waits until a backend that Put or Remove took out of a route has nothing in flight,
// or until ctx ends. Upgraded connections count. A backend never heard of has nothing.
func (m *Mesh) Drain(ctx context.Context, name, id string) error {
	left, err := m.left(name, id)
	if err != nil {
		return err
	}
	for _, b := range left {
		select {
		case <-b.drained:
		case <-ctx.Done():
			return fmt.Errorf("drain %s of %s: %d requests in flight: %w", id, name, b.inFlight(), context.Cause(ctx))
		}
	}
	return nil
}

// left lists the backends of that ID that are leaving a route.
func (m *Mesh) left(name, id string) ([]*backend, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*backend
	for _, b := range m.leaving[name] {
		if b.ID == id {
			out = append(out, b)
		}
	}
	if r := m.routes[name]; r != nil && len(out) == 0 {
		for _, b := range r.backends {
			if b.ID == id {
				return nil, fmt.Errorf("drain %s of %s: the route still sends requests to it", id, name)
			}
		}
	}
	return out, nil
}
