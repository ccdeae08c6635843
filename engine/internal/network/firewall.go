package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A firewall is the one nftables table of an engine. Its chains change with the networks;
// a published port is an element of a map and changes nothing else.
//
//	map ports      protocol . port           → address . port   (published on all addresses)
//	map addrports  address . protocol . port → address . port   (published on one)
//	set bridges    names of our interfaces
type firewall struct {
	name string

	mu   sync.Mutex
	conn *nftables.Conn
	live bool // the table is there
}

func (f *firewall) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: f.name}
}

// begin opens netlink at the first use. The caller holds mu.
func (f *firewall) begin() (*nftables.Conn, error) {
	if f.conn != nil {
		return f.conn, nil
	}
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	f.conn = conn
	return conn, nil
}

// commit sends what was collected. After a failure the next one begins afresh.
func (f *firewall) commit(doing string) error {
	err := f.conn.Flush()
	if err == nil {
		return nil
	}
	f.conn.CloseLasting()
	f.conn = nil
	return fmt.Errorf("%s in nftables: %w", doing, err)
}

func (f *firewall) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		return nil
	}
	err := f.conn.CloseLasting()
	f.conn = nil
	return err
}

// rewrite replaces the table in one step: there is no moment without rules.
func (f *firewall) rewrite(networks []Network, ports map[netip.Addr][]Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.begin()
	if err != nil {
		return err
	}
	t := f.table()
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)
	all, one, err := f.maps(t)
	if err != nil {
		return err
	}
	bridges := &nftables.Set{Table: t, Name: "bridges", KeyType: nftables.TypeIFName}
	var names []nftables.SetElement
	for _, n := range networks {
		names = append(names, nftables.SetElement{Key: ifname(n.Bridge)})
	}
	var anywhere, somewhere []nftables.SetElement
	for ip, published := range ports {
		a, s, err := elements(ip, published)
		if err != nil {
			return err
		}
		anywhere, somewhere = append(anywhere, a...), append(somewhere, s...)
	}
	err = errors.Join(c.AddSet(bridges, names), c.AddSet(all, anywhere), c.AddSet(one, somewhere))
	if err != nil {
		return fmt.Errorf("describe the firewall: %w", err)
	}
	f.chains(c, t, networks)
	if err := f.commit("write the rules of the networks"); err != nil {
		return err
	}
	f.live = true
	return coexist(networks)
}

func (f *firewall) chains(c *nftables.Conn, t *nftables.Table, networks []Network) {
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func(...[]expr.Any) {
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: priority})
		return func(parts ...[]expr.Any) {
			var all []expr.Any
			for _, part := range parts {
				all = append(all, part...)
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: all})
		}
	}
	raw := chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	in := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	leave := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	pass := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	for _, rule := range []func(...[]expr.Any){in, out} {
		rule(toThisHost(), lookup("ports", false), dnat())
		rule(toThisHost(), lookup("addrports", true), dnat())
	}
	pass(established(), accept())
	pass(translated(), accept())
	for _, n := range networks {
		// route_localnet would let containers reach what listens on 127.0.0.1 only.
		raw(from(n.Bridge), toPrefix(netip.MustParsePrefix("127.0.0.0/8")), drop())
		// Link-local addresses are not to be forwarded (RFC 3927 §7). Clouds give the keys of
		// the machine to whoever asks at one of them.
		pass(from(n.Bridge), toPrefix(netip.MustParsePrefix("169.254.0.0/16")), drop())
		if n.Isolated {
			pass(from(n.Bridge), to(n.Bridge), drop())
		}
		pass(from(n.Bridge), to(n.Bridge), accept())
		if n.Internal {
			pass(from(n.Bridge), drop())
		} else {
			leave(fromPrefix(n.Subnet), notTo(n.Bridge), masquerade())
		}
		// The answer to a container's own published port, or to 127.0.0.1, must come back here.
		leave(fromPrefix(n.Subnet), to(n.Bridge), translated(), masquerade())
		leave(fromPrefix(netip.MustParsePrefix("127.0.0.0/8")), to(n.Bridge), masquerade())
	}
	// Neither another network nor anybody outside reaches what is not published.
	pass(toOurs(), drop())
}

// publish points ports of the host at ip.
func (f *firewall) publish(ip netip.Addr, ports []Port) error {
	return f.change(ip, ports, "publish ports", (*nftables.Conn).SetAddElements)
}

// withdraw takes them back.
func (f *firewall) withdraw(ip netip.Addr, ports []Port) error {
	if err := f.change(ip, ports, "withdraw ports", (*nftables.Conn).SetDeleteElements); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

func (f *firewall) change(ip netip.Addr, ports []Port, doing string, apply func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	anywhere, somewhere, err := elements(ip, ports)
	if err != nil || len(anywhere)+len(somewhere) == 0 {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.live {
		return nil
	}
	c, err := f.begin()
	if err != nil {
		return err
	}
	all, one, err := f.maps(f.table())
	if err != nil {
		return err
	}
	if len(anywhere) > 0 {
		err = apply(c, all, anywhere)
	}
	if err == nil && len(somewhere) > 0 {
		err = apply(c, one, somewhere)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return f.commit(doing)
}

// remove takes the table away.
func (f *firewall) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.begin()
	if err != nil {
		return err
	}
	c.AddTable(f.table())
	c.DelTable(f.table())
	f.live = false
	return f.commit("remove the table")
}

func (f *firewall) maps(t *nftables.Table) (all, one *nftables.Set, err error) {
	value, verr := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	port, perr := nftables.ConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	addr, aerr := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	if err := errors.Join(verr, perr, aerr); err != nil {
		return nil, nil, fmt.Errorf("describe the maps of ports: %w", err)
	}
	all = &nftables.Set{Table: t, Name: "ports", IsMap: true, Concatenation: true, KeyType: port, DataType: value}
	one = &nftables.Set{Table: t, Name: "addrports", IsMap: true, Concatenation: true, KeyType: addr, DataType: value}
	return all, one, nil
}

// elements of the two maps. Each part of a key or value fills four bytes.
func elements(ip netip.Addr, ports []Port) (anywhere, somewhere []nftables.SetElement, err error) {
	for _, p := range ports {
		proto := byte(unix.IPPROTO_TCP)
		if p.Protocol == "udp" {
			proto = unix.IPPROTO_UDP
		}
		key := append([]byte{proto, 0, 0, 0}, port4(p.Host)...)
		value := append(ip.AsSlice(), port4(p.Container)...)
		if p.IP == "" || p.IP == "0.0.0.0" {
			anywhere = append(anywhere, nftables.SetElement{Key: key, Val: value})
			continue
		}
		host, err := netip.ParseAddr(p.IP)
		if err != nil {
			return nil, nil, fmt.Errorf("publish on %q: %w", p.IP, err)
		}
		somewhere = append(somewhere, nftables.SetElement{Key: append(host.AsSlice(), key...), Val: value})
	}
	return anywhere, somewhere, nil
}

func port4(p uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, p), 0, 0)
}
