package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/dns"
	"sampan.dev/sampan/internal/fault"
)

// Options of an endpoint.
type Options struct {
	ID      string // the container's
	Network string
	Names   []string // by which others of the network find it
	Ports   []Port
	DNS     []string // servers instead of the engine's
}

// A Port of a container that answers on the host.
type Port struct {
	IP        string // of the host; empty: all addresses
	Host      uint16 // zero: any that is free; Container says which
	Container uint16
	Protocol  string // "tcp" (also when empty) or "udp"
}

// An Endpoint is a container's place in a network.
type Endpoint struct {
	Network string
	NetNS   string // path
	IP      netip.Addr
	Gateway netip.Addr
	Prefix  int
	Ports   []Port // with the host's ports that were chosen
}

// An endpoint is what is kept of one.
type endpoint struct {
	ID      string
	Network string
	IP      netip.Addr
	Names   []string
	DNS     []string
	Ports   []Port

	held  []held      // the host's ports, so that nobody else takes them
	names *dns.Server // in the namespace
}

// Join makes a namespace for a container and connects it. What fails leaves nothing behind.
func (m *Manager) Join(ctx context.Context, o Options) (Endpoint, error) {
	n, e, err := m.reserve(o)
	if err != nil {
		return Endpoint{}, err
	}
	if err := m.connect(n, e); err != nil {
		return Endpoint{}, errors.Join(err, m.Leave(o.ID))
	}
	return m.describe(n, e), nil
}

func (m *Manager) describe(n Network, e *endpoint) Endpoint {
	return Endpoint{
		Network: e.Network, NetNS: m.path(e.ID), IP: e.IP, Gateway: n.Gateway, Prefix: n.Subnet.Bits(), Ports: slices.Clone(e.Ports),
	}
}

// reserve takes an address, and brings up the network when it is the first.
func (m *Manager) reserve(o Options) (Network, *endpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(o.Network)
	if err != nil {
		return Network{}, nil, err
	}
	if err := m.up(n); err != nil {
		return Network{}, nil, err
	}
	ip, err := m.address(n)
	if err != nil {
		return Network{}, nil, err
	}
	e := &endpoint{ID: o.ID, Network: n.Name, IP: ip, Names: o.Names, DNS: o.DNS, Ports: slices.Clone(o.Ports)}
	m.endpoints[o.ID], m.used[ip] = e, o.ID
	return *n, e, nil
}

func (m *Manager) connect(n Network, e *endpoint) error {
	ns, err := newNamespace(m.path(e.ID))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := plug(n, e.IP, ns); err != nil {
		return err
	}
	if err := m.announce(e, ns); err != nil {
		return err
	}
	if err := m.publish(e); err != nil {
		return err
	}
	return writeFile(m.file(e.ID), e, false)
}

// announce answers the questions for names that are asked inside, and knows e by its own.
func (m *Manager) announce(e *endpoint, ns *os.File) error {
	server, err := m.resolver.Serve(dns.Client{Network: e.Network, Upstream: e.DNS}, func(listen func() error) error {
		return inside(ns, func(*netlink.Handle) error { return listen() })
	})
	if err != nil {
		return fmt.Errorf("open the name server of container %.12s: %w", e.ID, err)
	}
	m.resolver.Add(e.Network, e.Names, e.IP)
	m.mu.Lock()
	e.names = server
	m.mu.Unlock()
	return nil
}

// publish takes the host's ports and points them at e.
func (m *Manager) publish(e *endpoint) error {
	for i := range e.Ports {
		h, err := hold(&e.Ports[i], e.IP)
		if err != nil {
			return err
		}
		m.mu.Lock()
		e.held = append(e.held, h)
		m.mu.Unlock()
	}
	if len(e.Ports) == 0 {
		return nil
	}
	return m.firewall.publish(e.IP, e.Ports)
}

// Leave takes a container out of its network. What needs the kernel's time goes on after the
// return; the address is given to nobody before that ended.
func (m *Manager) Leave(id string) error {
	m.mu.Lock()
	e, ok := m.endpoints[id]
	delete(m.endpoints, id)
	m.mu.Unlock()
	if !ok {
		return nil
	}
	m.resolver.Drop(e.Network, e.Names, e.IP)
	e.silence()
	err := m.firewall.withdraw(e.IP, e.Ports)
	if rmerr := os.Remove(m.file(id)); rmerr != nil && !errors.Is(rmerr, os.ErrNotExist) {
		err = errors.Join(err, rmerr)
	}
	m.teardown.Go(func() { m.unplug(e) })
	return err
}

func (m *Manager) unplug(e *endpoint) {
	if err := removeNamespace(m.path(e.ID)); err != nil {
		m.cfg.Log.Error("a network namespace stays until the machine restarts", "container", e.ID, "err", err)
	}
	if slices.ContainsFunc(e.Ports, func(p Port) bool { return p.Protocol == "udp" }) {
		forget(e.IP) // otherwise packets of the past go on to whoever has the address next
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used[e.IP] == e.ID {
		delete(m.used, e.IP)
	}
}

// silence closes what this process holds for e; the container stays connected.
func (e *endpoint) silence() {
	if e.names != nil {
		e.names.Close()
		e.names = nil
	}
	for _, h := range e.held {
		h.Close()
	}
	e.held = nil
}

// Keep goes on serving the containers of ids after a restart, and removes what any other
// one left behind.
func (m *Manager) Keep(ids []string) error {
	var errs []error
	for _, e := range m.list() {
		if !slices.Contains(ids, e.ID) {
			errs = append(errs, m.Leave(e.ID))
		}
	}
	errs = append(errs, m.restore())
	for _, e := range m.list() {
		errs = append(errs, m.resume(e))
	}
	return errors.Join(errs...)
}

func (m *Manager) list() []*endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*endpoint, 0, len(m.endpoints))
	for _, e := range m.endpoints {
		all = append(all, e)
	}
	return all
}

// restore brings back bridges and rules for the endpoints that are there.
func (m *Manager) restore() error {
	m.teardown.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.sweep(); err != nil {
		return err
	}
	if len(m.endpoints) == 0 {
		return m.firewall.remove()
	}
	for _, e := range m.endpoints {
		if err := m.up(m.networks[e.Network]); err != nil {
			return err
		}
	}
	return m.rules()
}

// resume serves a container that ran on while no engine did.
func (m *Manager) resume(e *endpoint) error {
	ns, err := os.Open(m.path(e.ID))
	if err != nil {
		return fmt.Errorf("find the network of container %.12s: %w", e.ID, err)
	}
	defer ns.Close()
	for i := range e.Ports {
		h, err := hold(&e.Ports[i], e.IP)
		if err != nil {
			// Somebody took the port while nobody held it; the rule still comes first.
			m.cfg.Log.Warn("a published port is also used by another program", "container", e.ID, "port", e.Ports[i].Host, "err", err)
			continue
		}
		e.held = append(e.held, h)
	}
	return m.announce(e, ns)
}

// Endpoint tells where a container is.
func (m *Manager) Endpoint(id string) (Endpoint, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.endpoints[id]
	if !ok {
		return Endpoint{}, false
	}
	return m.describe(*m.networks[e.Network], e), true
}

// sweep unmounts namespaces that no endpoint has. The caller holds mu.
func (m *Manager) sweep() error {
	entries, err := os.ReadDir(m.cfg.Run)
	if err != nil {
		return fmt.Errorf("list the network namespaces: %w", err)
	}
	for _, entry := range entries {
		if _, ok := m.endpoints[entry.Name()]; ok {
			continue
		}
		if err := removeNamespace(filepath.Join(m.cfg.Run, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) path(id string) string { return filepath.Join(m.cfg.Run, id) }
func (m *Manager) file(id string) string { return filepath.Join(m.cfg.Dir, "endpoints", id+".json") }

// forget ends what the kernel remembers of connections to ip.
func forget(ip netip.Addr) {
	filter := &netlink.ConntrackFilter{}
	if err := filter.AddIP(netlink.ConntrackReplySrcIP, net.IP(ip.AsSlice())); err != nil {
		return
	}
	// Without the kernel's conntrack there is nothing to forget.
	_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
}

// errPort says who has a port, in the user's words.
func errPort(p Port, err error) error {
	where := p.Protocol + " port " + fmt.Sprint(p.Host)
	if errors.Is(err, unix.EADDRINUSE) {
		return fault.Conflict("%s of this machine is in use", where).Try("choose another one, or 0 for any that is free")
	}
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return fault.Invalid("this machine has no address %s", p.IP).Try("publish the port on an address of this machine")
	}
	return fmt.Errorf("publish %s: %w", where, err)
}
