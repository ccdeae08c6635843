package network

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sampan.dev/sampan/internal/fault"
)

// up makes sure that the bridge of n is there and that its packets are forwarded. The caller
// holds mu.
func (m *Manager) up(n *Network) error {
	if m.ready[n.Name] {
		return nil
	}
	for _, p := range n.Pools {
		v6 := p.Subnet.Addr().Is6()
		name, at := "net/ipv4/ip_forward", 0
		if v6 {
			name, at = "net/ipv6/conf/all/forwarding", 1
		}
		if m.forward[at] {
			continue
		}
		if err := sysctl(name, "1"); err != nil {
			return err
		}
		m.forward[at] = true
	}
	if err := bridge(n); err != nil {
		return err
	}
	m.ready[n.Name] = true
	if err := m.rules(); err != nil {
		delete(m.ready, n.Name)
		return err
	}
	return nil
}

// rules writes the tables anew, in one step each. The caller holds mu.
func (m *Manager) rules() error {
	networks := make([]Network, 0, len(m.ready))
	for name := range m.ready {
		networks = append(networks, *m.networks[name])
	}
	var ports []target
	for _, s := range m.sandboxes {
		ports = append(ports, targets(m.ways(s), s.Ports)...)
	}
	return m.firewall.rewrite(networks, ports)
}

func bridge(n *Network) error {
	size := n.MTU
	if size == 0 {
		size = mtu()
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Bridge, MTU: size, HardwareAddr: hardware(n.ID)}}
	if err := netlink.LinkAdd(link); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make the bridge %s: %w", n.Bridge, err)
	}
	made, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", n.Bridge, err)
	}
	if !own(made, n) {
		return fault.Conflict("the machine has an interface %s already", n.Bridge).Try("choose another name, or remove it")
	}
	for _, p := range n.Pools {
		if err := netlink.AddrReplace(made, addressOf(p.Gateway, p.Subnet.Bits())); err != nil {
			return fmt.Errorf("give the bridge %s its address: %w", n.Bridge, err)
		}
	}
	if err := netlink.LinkSetUp(made); err != nil {
		return fmt.Errorf("start the bridge %s: %w", n.Bridge, err)
	}
	// A port that is published on 127.0.0.1 leads out of this bridge; the table drops what
	// comes in for 127.0.0.0/8.
	return sysctl("net/ipv4/conf/"+n.Bridge+"/route_localnet", "1")
}

// addressOf is one for netlink. One of IPv6 is used at once: nobody else can have it.
func addressOf(ip netip.Addr, bits int) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(ip, bits)}
	if ip.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// own says of an interface that it is the bridge we made for a network.
func own(link netlink.Link, n *Network) bool {
	return link.Type() == "bridge" && bytes.Equal(link.Attrs().HardwareAddr, hardware(n.ID))
}

// removeBridge removes ours, never one of that name that is somebody else's.
func removeBridge(n *Network) error {
	link, err := netlink.LinkByName(n.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) || err == nil && !own(link, n) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", n.Bridge, err)
	}
	return removeLink(n.Bridge)
}

// plug connects a namespace to a bridge. The peer is made where it will be used, for
// moving an interface costs more than making it.
func plug(n Network, e *endpoint, ns *os.File) error {
	master, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", n.Bridge, err)
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return fmt.Errorf("make the network interface of %s: %w", n.Name, err)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: vethName(e), MTU: master.Attrs().MTU, MasterIndex: master.Attrs().Index, Flags: net.FlagUp},
		PeerName:  e.Interface, PeerNamespace: netlink.NsFd(int(ns.Fd())), PeerMTU: uint32(master.Attrs().MTU),
		PeerHardwareAddr: mac,
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the network interface of %s: %w", n.Name, err)
	}
	if err := hairpin(veth); err != nil {
		return err
	}
	if n.Isolated {
		return isolate(veth, master, mac, e.addresses())
	}
	return nil
}

// carry makes the kernel act at once on interfaces whose other end came up, which it does
// when it is asked for one of them. Otherwise it drops what is sent in the next
// milliseconds, and the first connection to a container waits a second for its second try.
func carry(names ...string) error {
	for _, name := range names {
		if _, err := netlink.LinkByName(name); err != nil {
			return fmt.Errorf("look at the interface %s: %w", name, err)
		}
	}
	return nil
}

// hairpin lets a container reach its own published port where the kernel translates within
// the bridge (br_netfilter): there the packet has to leave by the port it came in.
func hairpin(veth *netlink.Veth) error {
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		return nil
	}
	if err := number(veth); err != nil {
		return err
	}
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("let %s answer itself: %w", veth.Name, err)
	}
	return nil
}

// isolate keeps the bridge from passing frames to other isolated ports; what the host would
// route between them the table drops. Nor does the host or the bridge learn from what a
// container says: where an address is, is written down, so none gets what is for another.
func isolate(veth *netlink.Veth, master netlink.Link, mac net.HardwareAddr, ips []netip.Addr) error {
	if err := number(veth); err != nil {
		return err
	}
	port := &netlink.Neigh{LinkIndex: veth.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: mac}
	errs := []error{netlink.LinkSetIsolated(veth, true), netlink.LinkSetLearning(veth, false), netlink.NeighSet(port)}
	for _, ip := range ips {
		errs = append(errs, netlink.NeighSet(&netlink.Neigh{
			LinkIndex: master.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac,
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("isolate %s: %w", veth.Name, err)
	}
	return nil
}

// number finds out the index of an interface that was just made.
func number(veth *netlink.Veth) error {
	if veth.Index != 0 {
		return nil
	}
	made, err := netlink.LinkByName(veth.Name)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", veth.Name, err)
	}
	veth.Index = made.Attrs().Index
	return nil
}

// configure is done in the container's namespace.
func configure(h *netlink.Handle, n Network, e *endpoint) error {
	eth, err := h.LinkByName(e.Interface)
	if err != nil {
		return fmt.Errorf("find %s: %w", e.Interface, err)
	}
	for _, ip := range e.addresses() {
		pool, _ := n.Pool(ip.Is6())
		if err := h.AddrAdd(eth, addressOf(ip, pool.Subnet.Bits())); err != nil {
			return fmt.Errorf("give %s the address %s: %w", e.Interface, ip, err)
		}
	}
	if err := h.LinkSetUp(eth); err != nil {
		return fmt.Errorf("start %s: %w", e.Interface, err)
	}
	if _, err := h.LinkByIndex(eth.Attrs().Index); err != nil { // as in carry
		return fmt.Errorf("look at %s: %w", e.Interface, err)
	}
	return nil
}

// route sets the ways out, in the container's namespace.
func route(h *netlink.Handle, ways [2]way) error {
	for i, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		way := ways[i]
		if way.endpoint == nil {
			continue // one that there was went with its interface
		}
		eth, err := h.LinkByName(way.endpoint.Interface)
		if err != nil {
			return fmt.Errorf("find %s: %w", way.endpoint.Interface, err)
		}
		r := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IP(way.gateway.AsSlice()), Family: family}
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("set the default route to %s: %w", way.gateway, err)
		}
	}
	return nil
}

// vethName is the host's end: unique by endpoint, and found again after a restart.
func vethName(e *endpoint) string { return "veth" + e.ID[:11] }

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the interface %s: %w", name, err)
	}
	return nil
}

// mtu is that of the interface behind the default route: larger packets would get stuck there.
func mtu() int {
	const usual = 1500
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return usual
	}
	for _, route := range routes {
		if route.Dst != nil && !route.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(route.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return usual
}

func sysctl(name, value string) error {
	path := "/proc/sys/" + name
	if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}

// hardware makes a stable, locally administered address; a bridge without one changes it
// with every container.
func hardware(id string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(id))
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

func hardwareOf(ip netip.Addr) net.HardwareAddr {
	raw := ip.AsSlice()
	return append(net.HardwareAddr{0x02, 0x42}, raw[len(raw)-4:]...)
}

func ipNet(ip netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: net.IP(ip.AsSlice()), Mask: net.CIDRMask(bits, ip.BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits).Masked(), true
}

// hostHasIPv6 reports whether this machine has IPv6 at all.
func hostHasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// A Traffic counts what came and went through one interface of a container.
type Traffic struct {
	Interface                                  string
	Received, ReceivedPackets, ReceivedErrors  uint64
	ReceivedDropped                            uint64
	Sent, SentPackets, SentErrors, SentDropped uint64
}

// Traffic of a container since it joined each of its networks.
func (m *Manager) Traffic(id string) []Traffic {
	m.mu.Lock()
	var all []Traffic
	names := []string{}
	if s, ok := m.sandboxes[id]; ok {
		for _, e := range s.Endpoints {
			all, names = append(all, Traffic{Interface: e.Interface}), append(names, vethName(e))
		}
	}
	m.mu.Unlock()
	for i, name := range names {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().Statistics == nil {
			continue // it is going
		}
		// This end's traffic is the other end's, turned round.
		c, t := link.Attrs().Statistics, &all[i]
		t.Received, t.ReceivedPackets, t.ReceivedErrors, t.ReceivedDropped = c.TxBytes, c.TxPackets, c.TxErrors, c.TxDropped
		t.Sent, t.SentPackets, t.SentErrors, t.SentDropped = c.RxBytes, c.RxPackets, c.RxErrors, c.RxDropped
	}
	return all
}
