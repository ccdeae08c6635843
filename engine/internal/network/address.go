package network

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// pools completes those of a network that shall be. The caller holds mu.
func (m *Manager) pools(spec Spec) ([]Pool, error) {
	taken, err := m.taken()
	if err != nil {
		return nil, err
	}
	var pools []Pool
	for i, wanted := range []bool{!spec.NoIPv4, spec.IPv6} {
		if !wanted {
			continue
		}
		v6 := i == 1
		asked, err := askedFor(spec.Pools, v6)
		if err != nil {
			return nil, err
		}
		if asked, err = complete(asked, v6, taken); err != nil {
			return nil, err
		}
		pools = append(pools, asked)
	}
	if len(pools) == 0 {
		return nil, fault.Invalid("the network %s has neither IPv4 nor IPv6", spec.Name)
	}
	for _, p := range spec.Pools {
		if v6 := p.Subnet.Addr().Is6(); p.Subnet.IsValid() && (v6 && !spec.IPv6 || !v6 && spec.NoIPv4) {
			return nil, fault.Invalid("the network %s has the subnet %s and does not ask for that version of IP", spec.Name, p.Subnet).On("subnet")
		}
	}
	return pools, nil
}

func askedFor(pools []Pool, v6 bool) (Pool, error) {
	var found []Pool
	for _, p := range pools {
		if p.Subnet.IsValid() && p.Subnet.Addr().Is6() == v6 || !p.Subnet.IsValid() && !v6 {
			found = append(found, p)
		}
	}
	if len(found) > 1 {
		return Pool{}, fault.Invalid("a bridge has one subnet of each version of IP, not %d", len(found)).On("subnet")
	}
	if len(found) == 0 {
		return Pool{}, nil
	}
	return found[0], nil
}

// complete checks a pool, and chooses a subnet that is free and its gateway where none is asked for.
func complete(p Pool, v6 bool, taken []netip.Prefix) (Pool, error) {
	var err error
	if !p.Subnet.IsValid() {
		if p.Gateway.IsValid() || p.Range.IsValid() {
			return p, fault.Invalid("a gateway or a range of addresses needs a subnet").On("subnet")
		}
		if p.Subnet, err = free(v6, taken); err != nil {
			return p, err
		}
	}
	p.Subnet = p.Subnet.Masked()
	bits, most := p.Subnet.Bits(), 29
	if v6 {
		most = 125
	}
	if bits > most || bits < 8 {
		return p, fault.Invalid("%s is not a subnet for containers", p.Subnet).Try("use 8 to %d bits, as in 10.9.0.0/16", most).On("subnet")
	}
	if other, ok := overlaps(p.Subnet, taken); ok {
		return p, fault.Conflict("the subnet %s overlaps %s, which this machine uses", p.Subnet, other).On("subnet")
	}
	if !p.Gateway.IsValid() {
		p.Gateway = p.Subnet.Addr().Next()
		if p.Range.IsValid() && p.Range.Masked().Addr() != p.Subnet.Addr() {
			p.Gateway = p.Range.Masked().Addr()
		}
	}
	if !p.Subnet.Contains(p.Gateway) {
		return p, fault.Invalid("the gateway %s is not in the subnet %s", p.Gateway, p.Subnet).On("gateway")
	}
	if p.Range.IsValid() && (!p.Subnet.Contains(p.Range.Addr()) || p.Range.Bits() < bits) {
		return p, fault.Invalid("the addresses %s are not in the subnet %s", p.Range, p.Subnet).On("range")
	}
	return p, nil
}

func overlaps(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Overlaps(p) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// free finds a subnet that neither this machine's interfaces and routes nor our other networks
// have.
func free(v6 bool, taken []netip.Prefix) (netip.Prefix, error) {
	if v6 {
		for i := range 1 << 16 {
			// A unique local prefix (RFC 4193) of our own, with a subnet for each network.
			p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x5a, 0x3b, 0x11, 0x70, 0xa6, byte(i >> 8), byte(i)}), 64)
			if _, ok := overlaps(p, taken); !ok {
				return p, nil
			}
		}
		return netip.Prefix{}, fault.Unavailable("no subnet of IPv6 is free").Try("name one for this network")
	}
	// 172.16.0.0/12 in pieces of 4094 addresses, from its middle on: its beginning is Docker's.
	for i := range 256 {
		at := (i + 0xc0) % 256
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + at/16), byte(at % 16 * 16), 0}), 20)
		if _, ok := overlaps(p, taken); !ok {
			return p, nil
		}
	}
	// 192.168.0.0/16 in pieces of 254.
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24)
		if _, ok := overlaps(p, taken); !ok {
			return p, nil
		}
	}
	return netip.Prefix{}, fault.Unavailable("no private subnet is free").Try("name one for this network")
}

// lockSubnets keeps other processes of this network namespace from choosing a subnet. Its
// file is the namespace itself, which all of them have in common.
func lockSubnets() (unlock func(), err error) {
	namespace, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("choose a subnet: %w", err)
	}
	if err := unix.Flock(int(namespace.Fd()), unix.LOCK_EX); err != nil {
		namespace.Close()
		return nil, fmt.Errorf("choose a subnet: %w", err)
	}
	return func() { namespace.Close() }, nil
}

func (m *Manager) taken() ([]netip.Prefix, error) {
	var taken []netip.Prefix
	for _, n := range m.networks {
		for _, p := range n.Pools {
			taken = append(taken, p.Subnet)
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	for _, addr := range addrs {
		if p, ok := prefixOf(addr.IPNet); ok {
			taken = append(taken, p)
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the routes of this machine: %w", err)
	}
	for _, route := range routes {
		if p, ok := prefixOf(route.Dst); ok && p.Bits() > 0 {
			taken = append(taken, p)
		}
	}
	return taken, nil
}

type poolKey struct {
	network string
	v6      bool
}

// assign takes the address that is asked for, or the next free one. It goes round, so that one
// that was just left rests. The caller holds mu.
func (m *Manager) assign(n *Network, v6 bool, asked netip.Addr, id string) (netip.Addr, error) {
	pool, ok := n.Pool(v6)
	if !ok {
		if asked.IsValid() {
			return asked, fault.Invalid("the network %s has no subnet for %s", n.Name, asked)
		}
		return netip.Addr{}, nil
	}
	if asked.IsValid() {
		if !pool.Subnet.Contains(asked) {
			return asked, fault.Invalid("the address %s is not in the subnet %s of the network %s", asked, pool.Subnet, n.Name)
		}
		if owner, ok := m.used[asked]; ok || asked == pool.Gateway {
			return asked, fault.Conflict("the address %s is in use by container %.12s", asked, owner).Try("choose another one, or none")
		}
		m.used[asked] = id
		return asked, nil
	}
	key, from := poolKey{n.ID, v6}, pool.Subnet
	if pool.Range.IsValid() {
		from = pool.Range.Masked()
	}
	begin, last := from.Addr(), m.last[key]
	ip, ok := netip.Addr{}, false
	if last.IsValid() {
		ip, ok = m.search(pool, from, last.Next(), netip.Addr{})
	}
	if !ok {
		ip, ok = m.search(pool, from, begin, last)
	}
	if !ok {
		return ip, fault.Unavailable("the network %s has no free address in %s", n.Name, from).Try("remove containers, or use a network with a larger subnet")
	}
	m.last[key], m.used[ip] = ip, id
	return ip, nil
}

// search finds a free address of a pool from one on until another one, or the end.
func (m *Manager) search(p Pool, from netip.Prefix, ip, until netip.Addr) (netip.Addr, bool) {
	for ; from.Contains(ip); ip = ip.Next() {
		broadcast := ip.Is4() && !p.Subnet.Contains(ip.Next())
		if !broadcast && m.available(p, ip) {
			return ip, true
		}
		if ip == until {
			break
		}
	}
	return netip.Addr{}, false
}

func (m *Manager) available(p Pool, ip netip.Addr) bool {
	if _, used := m.used[ip]; used || ip == p.Gateway || ip == p.Subnet.Addr() {
		return false
	}
	for _, taken := range p.Taken {
		if taken == ip {
			return false
		}
	}
	return true
}
