package mesh

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A table says who answers for a host. It never changes: a change is a new table.
type table struct {
	main     http.Handler
	domain   string // the main domain
	open     bool   // every host that is no app's is the main handler's
	hosts    map[string]target
	suffixes map[string]target // "example.com" for "*.example.com"
}

// A target is a handler in this process or a route.
type target struct {
	handler http.Handler
	route   *route
}

// publish makes the table from what mu guards.
func (m *Mesh) publish() {
	t := &table{
		main: m.main, domain: m.cfg.Domain, open: m.cfg.Domain == "localhost",
		hosts: map[string]target{}, suffixes: map[string]target{},
	}
	for _, name := range slices.Sorted(maps.Keys(m.routes)) {
		r := m.routes[name]
		for _, host := range r.Hosts {
			host = canonical(host)
			if suffix, ok := strings.CutPrefix(host, "*."); ok {
				t.suffixes[suffix] = target{route: r}
			} else {
				t.hosts[host] = target{route: r}
			}
		}
	}
	if t.main == nil {
		t.main = http.HandlerFunc(m.starting)
	}
	for host, h := range m.hosts {
		t.hosts[host] = target{handler: h}
	}
	m.table.Store(t)
}

// find says who answers for the value of a Host header; nobody is the zero target.
func (t *table) find(hostport string) target {
	if found, ok := t.hosts[hostport]; ok {
		return found
	}
	host := canonical(hostname(hostport))
	if found, ok := t.hosts[host]; ok {
		return found
	}
	if host == t.domain {
		return target{handler: t.main}
	}
	if found, ok := t.suffix(host); ok {
		return found
	}
	if t.ours(host) {
		return target{handler: t.main}
	}
	return target{}
}

// suffix tries the wildcards from the longest to the shortest.
func (t *table) suffix(host string) (target, bool) {
	if len(t.suffixes) == 0 {
		return target{}, false
	}
	for {
		_, parent, ok := strings.Cut(host, ".")
		if !ok {
			return target{}, false
		}
		if found, ok := t.suffixes[parent]; ok {
			return found, true
		}
		host = parent
	}
}

// ours says whether a host without a route is one of the machine's own names. Below the main
// domain there are only apps. With no domain set the machine goes by any other name; with
// one, by its address and by names without a dot, as people use them in their own network.
func (t *table) ours(host string) bool {
	if strings.HasSuffix(host, "."+t.domain) {
		return false
	}
	if t.open || !strings.Contains(host, ".") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}
