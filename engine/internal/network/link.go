package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// up makes sure that the bridge of n is there and that its packets are forwarded. The caller
// holds mu.
func (m *Manager) up(n *Network) error {
	if m.ready[n.Name] {
		return nil
	}
	if !m.forward {
		if err := sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		m.forward = true
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

// rules writes the table anew, in one step. The caller holds mu.
func (m *Manager) rules() error {
	networks := make([]Network, 0, len(m.ready))
	for name := range m.ready {
		networks = append(networks, *m.networks[name])
	}
	ports := map[netip.Addr][]Port{}
	for _, e := range m.endpoints {
		ports[e.IP] = e.Ports
	}
	return m.firewall.rewrite(networks, ports)
}

func bridge(n *Network) error {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Bridge, MTU: mtu(), HardwareAddr: hardware(n.ID)}}
	if err := netlink.LinkAdd(link); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make the bridge %s: %w", n.Bridge, err)
	}
	made, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", n.Bridge, err)
	}
	gateway := &netlink.Addr{IPNet: ipNet(n.Gateway, n.Subnet.Bits())}
	if err := netlink.AddrReplace(made, gateway); err != nil {
		return fmt.Errorf("give the bridge %s its address: %w", n.Bridge, err)
	}
	if err := netlink.LinkSetUp(made); err != nil {
		return fmt.Errorf("start the bridge %s: %w", n.Bridge, err)
	}
	// A port that is published on 127.0.0.1 leads out of this bridge; the table drops what
	// comes in for 127.0.0.0/8.
	return sysctl("net/ipv4/conf/"+n.Bridge+"/route_localnet", "1")
}

// plug connects a namespace to its bridge. The peer is made where it will be used, for
// moving an interface costs more than making it.
func plug(n Network, ip netip.Addr, ns *os.File) error {
	master, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", n.Bridge, err)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: vethName(n.Bridge, ip), MTU: master.Attrs().MTU, MasterIndex: master.Attrs().Index, Flags: net.FlagUp},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd())), PeerMTU: uint32(master.Attrs().MTU),
		PeerHardwareAddr: hardwareOf(ip),
	}
	err = netlink.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		// The kernel is still busy with the last one of that name.
		if err = removeLink(veth.Name); err == nil {
			err = netlink.LinkAdd(veth)
		}
	}
	if err != nil {
		return fmt.Errorf("make the network interface of %s: %w", ip, err)
	}
	if err := hairpin(veth); err != nil {
		return err
	}
	if n.Isolated {
		if err := isolate(veth, master, ip); err != nil {
			return err
		}
	}
	if err := inside(ns, func(h *netlink.Handle) error { return configure(h, n, ip) }); err != nil {
		return err
	}
	return carry(veth.Name, n.Bridge)
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
func isolate(veth *netlink.Veth, master netlink.Link, ip netip.Addr) error {
	if err := number(veth); err != nil {
		return err
	}
	known := &netlink.Neigh{LinkIndex: master.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: hardwareOf(ip)}
	port := &netlink.Neigh{LinkIndex: veth.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: hardwareOf(ip)}
	err := errors.Join(netlink.LinkSetIsolated(veth, true), netlink.LinkSetLearning(veth, false), netlink.NeighSet(port), netlink.NeighSet(known))
	if err != nil {
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
func configure(h *netlink.Handle, n Network, ip netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := h.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(ip, n.Subnet.Bits())}); err != nil {
		return fmt.Errorf("give eth0 the address %s: %w", ip, err)
	}
	if err := errors.Join(h.LinkSetUp(lo), h.LinkSetUp(eth)); err != nil {
		return fmt.Errorf("start the interfaces: %w", err)
	}
	if _, err := h.LinkByIndex(eth.Attrs().Index); err != nil { // as in carry
		return fmt.Errorf("look at eth0: %w", err)
	}
	if n.Internal {
		return nil
	}
	route := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IP(n.Gateway.AsSlice())}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("set the default route to %s: %w", n.Gateway, err)
	}
	return nil
}

// vethName is the host's end: unique by bridge and address, and found again after a restart.
func vethName(bridge string, ip netip.Addr) string {
	sum := sha256.Sum256([]byte(bridge + ip.String()))
	return fmt.Sprintf("veth%x", sum[:5])
}

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
	return append(net.HardwareAddr{0x02, 0x42}, ip.AsSlice()...)
}

func ipNet(ip netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: net.IP(ip.AsSlice()), Mask: net.CIDRMask(bits, 32)}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP.To4())
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip, bits).Masked(), true
}

// Traffic counts the bytes that a container received and sent since it joined.
func (m *Manager) Traffic(id string) (received, sent uint64) {
	m.mu.Lock()
	e, ok := m.endpoints[id]
	var name string
	if ok {
		name = vethName(m.networks[e.Network].Bridge, e.IP)
	}
	m.mu.Unlock()
	if !ok {
		return 0, 0
	}
	// This end's traffic is the other end's, turned round.
	return counter(name, "tx_bytes"), counter(name, "rx_bytes")
}

func counter(link, name string) uint64 {
	raw, err := os.ReadFile("/sys/class/net/" + link + "/statistics/" + name)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	return n
}
