package network

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// subnet checks the one that was asked for, or finds one that neither this machine's
// interfaces and routes nor our other networks have. The caller holds mu.
func (m *Manager) subnet(asked netip.Prefix) (netip.Prefix, error) {
	taken, err := m.taken()
	if err != nil {
		return netip.Prefix{}, err
	}
	overlaps := func(p netip.Prefix) (netip.Prefix, bool) {
		for _, t := range taken {
			if t.Overlaps(p) {
				return t, true
			}
		}
		return netip.Prefix{}, false
	}
	if asked.IsValid() {
		asked = asked.Masked()
		if !asked.Addr().Is4() || asked.Bits() > 29 || asked.Bits() < 8 {
			return asked, fault.Invalid("%s is not a subnet for containers", asked).Try("use IPv4 with 8 to 29 bits, as in 10.9.0.0/16").On("subnet")
		}
		if other, ok := overlaps(asked); ok {
			return asked, fault.Conflict("the subnet %s overlaps %s, which this machine uses", asked, other).On("subnet")
		}
		return asked, nil
	}
	// 172.16.0.0/12 in pieces of 4094 addresses, from its middle on: its beginning is Docker's.
	for i := range 256 {
		at := (i + 0xc0) % 256
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + at/16), byte(at % 16 * 16), 0}), 20)
		if _, ok := overlaps(p); !ok {
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
		taken = append(taken, n.Subnet)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	for _, addr := range addrs {
		if p, ok := prefixOf(addr.IPNet); ok {
			taken = append(taken, p)
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
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

// address gives the next free one. It goes round, so that one that was just left rests. The
// caller holds mu.
func (m *Manager) address(n *Network) (netip.Addr, error) {
	ip := m.last[n.Name]
	if !ip.IsValid() {
		ip = n.Gateway
	}
	for range 1 << (32 - n.Subnet.Bits()) {
		ip = ip.Next()
		if !n.Subnet.Contains(ip) || !n.Subnet.Contains(ip.Next()) { // the last is for broadcasts
			ip = n.Gateway
			continue
		}
		if _, ok := m.used[ip]; !ok {
			m.last[n.Name] = ip
			return ip, nil
		}
	}
	return netip.Addr{}, fault.Unavailable("the network %s has no free address in %s", n.Name, n.Subnet).Try("remove containers, or use a network with a larger subnet")
}
