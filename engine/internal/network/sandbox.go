package network

import (
	"cmp"
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

// A Sandbox is what a container asks of the networks.
type Sandbox struct {
	ID        string // the container's
	Endpoints []Options
	Ports     []Port
	DNS       []string // servers instead of the engine's
}

// Options of an endpoint.
type Options struct {
	Network    string
	Names      []string // by which others of the network find it, the most telling first
	IPv4, IPv6 netip.Addr
	MAC        string
	Priority   int // the highest has the way out; among equals the first name of a network
}

// An Endpoint is a container's place in a network.
type Endpoint struct {
	ID         string
	Network    string
	NetworkID  string
	Interface  string // in the container
	MAC        string
	IPv4, IPv6 netip.Prefix // invalid: none
	Gateway4   netip.Addr
	Gateway6   netip.Addr
	Names      []string
}

// A Place is where a container is.
type Place struct {
	NetNS     string // path
	Endpoints []Endpoint
	Ports     []Port // with the host's ports that were chosen
}

// IP is the address that the host and others know it by; invalid without a network.
func (p Place) IP() netip.Addr {
	for _, e := range p.Endpoints {
		if e.IPv4.IsValid() {
			return e.IPv4.Addr()
		}
	}
	for _, e := range p.Endpoints {
		if e.IPv6.IsValid() {
			return e.IPv6.Addr()
		}
	}
	return netip.Addr{}
}

// A sandbox is what is kept of one.
type sandbox struct {
	ID        string
	DNS       []string
	Endpoints []*endpoint
	Ports     []Port

	held  []held      // the host's ports, so that nobody else takes them
	names *dns.Server // in the namespace
}

type endpoint struct {
	ID         string
	Network    string
	Interface  string
	MAC        string
	IPv4, IPv6 netip.Addr
	Names      []string
	Priority   int
}

func (e *endpoint) addresses() []netip.Addr {
	var list []netip.Addr
	for _, ip := range []netip.Addr{e.IPv4, e.IPv6} {
		if ip.IsValid() {
			list = append(list, ip)
		}
	}
	return list
}

func (s *sandbox) endpoint(network string) *endpoint {
	for _, e := range s.Endpoints {
		if e.Network == network {
			return e
		}
	}
	return nil
}

// Open makes a namespace for a container and connects it. What fails leaves nothing behind.
func (m *Manager) Open(ctx context.Context, o Sandbox) (Place, error) {
	s, err := m.reserve(o)
	if err != nil {
		return Place{}, errors.Join(err, m.Leave(o.ID))
	}
	if err := m.build(s, o.Ports); err != nil {
		return Place{}, errors.Join(err, m.Leave(o.ID))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.describe(s), nil
}

// reserve takes addresses, and brings up the networks of which it is the first.
func (m *Manager) reserve(o Sandbox) (*sandbox, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &sandbox{ID: o.ID, DNS: o.DNS}
	m.sandboxes[o.ID] = s
	for _, options := range o.Endpoints {
		if _, err := m.enter(s, options); err != nil {
			return s, err
		}
	}
	return s, nil
}

// enter adds an endpoint with its addresses. The caller holds mu.
func (m *Manager) enter(s *sandbox, o Options) (*endpoint, error) {
	n, err := m.find(o.Network)
	if err != nil {
		return nil, err
	}
	if s.endpoint(n.Name) != nil {
		return nil, fault.Conflict("container %.12s is in the network %s already", s.ID, n.Name)
	}
	if err := m.up(n); err != nil {
		return nil, err
	}
	e := &endpoint{ID: randomID(), Network: n.Name, MAC: o.MAC, Names: o.Names, Priority: o.Priority, Interface: s.freeInterface()}
	if o.MAC != "" {
		if _, err := net.ParseMAC(o.MAC); err != nil {
			return nil, fault.Invalid("%q is not the address of a network card", o.MAC)
		}
	}
	if e.IPv4, err = m.assign(n, false, o.IPv4, s.ID); err == nil {
		e.IPv6, err = m.assign(n, true, o.IPv6, s.ID)
	}
	if err != nil {
		m.free(e, s.ID)
		return nil, err
	}
	e.MAC = cmp.Or(e.MAC, hardwareOf(cmp.Or(e.IPv4, e.IPv6)).String())
	s.Endpoints = append(s.Endpoints, e)
	return e, nil
}

// freeInterface is the first name that no endpoint has.
func (s *sandbox) freeInterface() string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(s.Endpoints, func(e *endpoint) bool { return e.Interface == name }) {
			return name
		}
	}
}

func (m *Manager) build(s *sandbox, ports []Port) error {
	ns, err := newNamespace(m.path(s.ID))
	if err != nil {
		return err
	}
	defer ns.Close()
	for _, e := range s.Endpoints {
		if err := plug(m.network(e), e, ns); err != nil {
			return err
		}
	}
	if err := m.configure(s, ns, s.Endpoints); err != nil {
		return err
	}
	if err := m.announce(s, ns); err != nil {
		return err
	}
	if err := m.publish(s, ports); err != nil {
		return err
	}
	return m.keep(s)
}

func (m *Manager) network(e *endpoint) Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.networks[e.Network]
}

// configure sets up the interfaces of endpoints in the namespace, and then the way out of all.
func (m *Manager) configure(s *sandbox, ns *os.File, fresh []*endpoint) error {
	m.mu.Lock()
	networks := map[string]Network{}
	for _, e := range s.Endpoints {
		networks[e.Network] = *m.networks[e.Network]
	}
	ways := m.ways(s)
	m.mu.Unlock()
	err := inside(ns, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find the loopback interface: %w", err)
		}
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("start the loopback interface: %w", err)
		}
		for _, e := range fresh {
			if err := configure(h, networks[e.Network], e); err != nil {
				return err
			}
		}
		return route(h, ways)
	})
	if err != nil {
		return err
	}
	for _, e := range fresh {
		if err := carry(vethName(e), networks[e.Network].Bridge); err != nil {
			return err
		}
	}
	return nil
}

// A way leads out of a sandbox.
type way struct {
	endpoint *endpoint
	gateway  netip.Addr
}

// ways are those of IPv4 and IPv6. The caller holds mu.
func (m *Manager) ways(s *sandbox) [2]way {
	order := slices.Clone(s.Endpoints)
	slices.SortStableFunc(order, func(a, b *endpoint) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Network, b.Network))
	})
	var ways [2]way
	for _, e := range order {
		n := m.networks[e.Network]
		if n == nil || n.Internal {
			continue
		}
		for i, ip := range []netip.Addr{e.IPv4, e.IPv6} {
			if pool, ok := n.Pool(i == 1); ok && ip.IsValid() && ways[i].endpoint == nil {
				ways[i] = way{e, pool.Gateway}
			}
		}
	}
	return ways
}

// announce answers the questions for names that are asked inside, and knows s by its own.
func (m *Manager) announce(s *sandbox, ns *os.File) error {
	m.mu.Lock()
	client := m.client(s)
	m.mu.Unlock()
	server, err := m.resolver.Serve(client, func(listen func() error) error {
		return inside(ns, func(*netlink.Handle) error { return listen() })
	})
	if err != nil {
		return fmt.Errorf("open the name server of container %.12s: %w", s.ID, err)
	}
	for _, e := range s.Endpoints {
		m.name(e)
	}
	m.mu.Lock()
	s.names = server
	m.mu.Unlock()
	return nil
}

// client is who asks from a sandbox. Without a way out it learns nothing of the world either:
// questions carry data out, too. The caller holds mu.
func (m *Manager) client(s *sandbox) dns.Client {
	c := dns.Client{Upstream: s.DNS, Alone: len(s.Endpoints) > 0}
	for _, e := range s.Endpoints {
		c.Networks = append(c.Networks, e.Network)
		c.Alone = c.Alone && m.networks[e.Network].Internal
	}
	return c
}

func (m *Manager) name(e *endpoint) {
	for _, ip := range e.addresses() {
		m.resolver.Add(e.Network, e.Names, ip)
	}
}

func (m *Manager) unname(e *endpoint) {
	for _, ip := range e.addresses() {
		m.resolver.Drop(e.Network, e.Names, ip)
	}
}

// keep writes a sandbox down for the next process.
func (m *Manager) keep(s *sandbox) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return writeFile(m.file(s.ID), s, false)
}

// Connect puts a container that has a sandbox into a further network.
func (m *Manager) Connect(ctx context.Context, id string, o Options) (Endpoint, error) {
	m.mu.Lock()
	s, ok := m.sandboxes[id]
	if !ok {
		m.mu.Unlock()
		return Endpoint{}, fault.Conflict("container %.12s has no network of its own", id)
	}
	e, err := m.enter(s, o)
	m.mu.Unlock()
	if err != nil {
		return Endpoint{}, err
	}
	if err := m.attach(s, e); err != nil {
		return Endpoint{}, errors.Join(err, m.Disconnect(ctx, id, e.Network))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.describeEndpoint(e), nil
}

func (m *Manager) attach(s *sandbox, e *endpoint) error {
	ns, err := os.Open(m.path(s.ID))
	if err != nil {
		return fmt.Errorf("find the network of container %.12s: %w", s.ID, err)
	}
	defer ns.Close()
	if err := plug(m.network(e), e, ns); err != nil {
		return err
	}
	if err := m.configure(s, ns, []*endpoint{e}); err != nil {
		return err
	}
	m.name(e)
	return m.turn(s)
}

// turn follows a change of endpoints: names and published ports.
func (m *Manager) turn(s *sandbox) error {
	m.mu.Lock()
	client := m.client(s)
	if s.names != nil {
		s.names.Set(client)
	}
	err := m.rules() // the way to a published port may be another one now
	m.mu.Unlock()
	return errors.Join(err, m.keep(s))
}

// Disconnect takes a container out of a network.
func (m *Manager) Disconnect(ctx context.Context, id, network string) error {
	m.mu.Lock()
	n, err := m.find(network)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	s := m.sandboxes[id]
	var e *endpoint
	if s != nil {
		e = s.endpoint(n.Name)
	}
	if e == nil {
		m.mu.Unlock()
		return fault.NotFound("container %.12s is not in the network %s", id, n.Name)
	}
	s.Endpoints = slices.DeleteFunc(s.Endpoints, func(other *endpoint) bool { return other == e })
	m.mu.Unlock()
	m.unname(e)
	err = removeLink(vethName(e))
	ns, oerr := os.Open(m.path(id))
	if oerr == nil {
		oerr = errors.Join(m.configure(s, ns, nil), ns.Close())
	}
	err = errors.Join(err, oerr, m.turn(s))
	m.mu.Lock()
	m.free(e, id)
	m.mu.Unlock()
	return err
}

// free gives back the addresses of e. The caller holds mu.
func (m *Manager) free(e *endpoint, id string) {
	for _, ip := range e.addresses() {
		if m.used[ip] == id {
			delete(m.used, ip)
		}
	}
}

// publish takes the host's ports and points them at s.
func (m *Manager) publish(s *sandbox, ports []Port) error {
	m.mu.Lock()
	ways := m.ways(s)
	ports = m.spread(s, ports)
	m.mu.Unlock()
	for i := range ports {
		h, err := hold(&ports[i], ways)
		if err != nil {
			return err
		}
		if i+1 < len(ports) && ports[i+1].twin { // the same port, of the other version of IP
			ports[i+1].Host, ports[i+1].HostEnd = ports[i].Host, 0
		}
		m.mu.Lock()
		s.held = append(s.held, h)
		s.Ports = append(s.Ports, ports[i])
		m.mu.Unlock()
	}
	if len(ports) == 0 {
		return nil
	}
	return m.firewall.publish(targets(ways, s.Ports))
}

// spread makes two ports of one that is published everywhere. The caller holds mu.
func (m *Manager) spread(s *sandbox, ports []Port) []Port {
	var all []Port
	for _, p := range ports {
		if p.IP == "" {
			if way := m.ways(s)[0].endpoint; way != nil && m.networks[way.Network].PublishOn.IsValid() {
				p.IP = m.networks[way.Network].PublishOn.String()
			}
		}
		if p.IP != "" {
			all = append(all, p)
			continue
		}
		p.IP = "0.0.0.0"
		all = append(all, p)
		if hostHasIPv6() {
			p.IP, p.twin = "::", true
			all = append(all, p)
		}
	}
	return all
}

// Leave takes a container out of all its networks. What needs the kernel's time goes on after
// the return; addresses are given to nobody before that ended.
func (m *Manager) Leave(id string) error {
	m.mu.Lock()
	s, ok := m.sandboxes[id]
	if !ok {
		m.mu.Unlock()
		return nil
	}
	ways := m.ways(s)
	delete(m.sandboxes, id)
	m.mu.Unlock()
	for _, e := range s.Endpoints {
		m.unname(e)
	}
	s.silence()
	err := m.firewall.withdraw(targets(ways, s.Ports))
	if rmerr := os.Remove(m.file(id)); rmerr != nil && !errors.Is(rmerr, os.ErrNotExist) {
		err = errors.Join(err, rmerr)
	}
	m.teardown.Go(func() { m.unplug(s) })
	return err
}

func (m *Manager) unplug(s *sandbox) {
	if err := removeNamespace(m.path(s.ID)); err != nil {
		m.cfg.Log.Error("a network namespace stays until the machine restarts", "container", s.ID, "err", err)
	}
	udp := slices.ContainsFunc(s.Ports, func(p Port) bool { return p.Protocol == "udp" })
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range s.Endpoints {
		for _, ip := range e.addresses() {
			if udp {
				forget(ip) // otherwise packets of the past go on to whoever has the address next
			}
		}
		m.free(e, s.ID)
	}
}

// silence closes what this process holds for s; the container stays connected.
func (s *sandbox) silence() {
	if s.names != nil {
		s.names.Close()
		s.names = nil
	}
	for _, h := range s.held {
		h.Close()
	}
	s.held = nil
}

// Keep goes on serving the containers of ids after a restart, and removes what any other
// one left behind.
func (m *Manager) Keep(ids []string) error {
	var errs []error
	for _, s := range m.list() {
		if !slices.Contains(ids, s.ID) {
			errs = append(errs, m.Leave(s.ID))
		}
	}
	errs = append(errs, m.restore())
	for _, s := range m.list() {
		errs = append(errs, m.resume(s))
	}
	return errors.Join(errs...)
}

func (m *Manager) list() []*sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*sandbox, 0, len(m.sandboxes))
	for _, s := range m.sandboxes {
		all = append(all, s)
	}
	return all
}

// restore brings back bridges and rules for the sandboxes that are there.
func (m *Manager) restore() error {
	m.teardown.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.sweep(); err != nil {
		return err
	}
	if len(m.sandboxes) == 0 {
		return m.firewall.remove()
	}
	for _, s := range m.sandboxes {
		for _, e := range s.Endpoints {
			if err := m.up(m.networks[e.Network]); err != nil {
				return err
			}
		}
	}
	return m.rules()
}

// resume serves a container that ran on while no engine did.
func (m *Manager) resume(s *sandbox) error {
	ns, err := os.Open(m.path(s.ID))
	if err != nil {
		return fmt.Errorf("find the network of container %.12s: %w", s.ID, err)
	}
	defer ns.Close()
	m.mu.Lock()
	ways := m.ways(s)
	m.mu.Unlock()
	for i := range s.Ports {
		h, err := hold(&s.Ports[i], ways)
		if err != nil {
			// Somebody took the port while nobody held it; the rule still comes first.
			m.cfg.Log.Warn("a published port is also used by another program", "container", s.ID, "port", s.Ports[i].Host, "err", err)
			continue
		}
		s.held = append(s.held, h)
	}
	return m.announce(s, ns)
}

// Place tells where a container is.
func (m *Manager) Place(id string) (Place, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sandboxes[id]
	if !ok {
		return Place{}, false
	}
	return m.describe(s), true
}

// describe is called with mu held.
func (m *Manager) describe(s *sandbox) Place {
	p := Place{NetNS: m.path(s.ID), Ports: slices.Clone(s.Ports)}
	for _, e := range s.Endpoints {
		p.Endpoints = append(p.Endpoints, m.describeEndpoint(e))
	}
	return p
}

func (m *Manager) describeEndpoint(e *endpoint) Endpoint {
	n := m.networks[e.Network]
	out := Endpoint{
		ID: e.ID, Network: n.Name, NetworkID: n.ID, Interface: e.Interface, MAC: e.MAC, Names: slices.Clone(e.Names),
	}
	if pool, ok := n.Pool(false); ok && e.IPv4.IsValid() {
		out.IPv4, out.Gateway4 = netip.PrefixFrom(e.IPv4, pool.Subnet.Bits()), pool.Gateway
	}
	if pool, ok := n.Pool(true); ok && e.IPv6.IsValid() {
		out.IPv6, out.Gateway6 = netip.PrefixFrom(e.IPv6, pool.Subnet.Bits()), pool.Gateway
	}
	return out
}

// Members are the containers that are in a network, with their endpoints.
func (m *Manager) Members(network string) map[string]Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	members := map[string]Endpoint{}
	for id, s := range m.sandboxes {
		if e := s.endpoint(network); e != nil {
			members[id] = m.describeEndpoint(e)
		}
	}
	return members
}

// sweep unmounts namespaces that no sandbox has. The caller holds mu.
func (m *Manager) sweep() error {
	entries, err := os.ReadDir(m.cfg.Run)
	if err != nil {
		return fmt.Errorf("list the network namespaces: %w", err)
	}
	for _, entry := range entries {
		if _, ok := m.sandboxes[entry.Name()]; ok {
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
	family := netlink.InetFamily(unix.AF_INET)
	if ip.Is6() {
		family = unix.AF_INET6
	}
	// Without the kernel's conntrack there is nothing to forget.
	_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
}
