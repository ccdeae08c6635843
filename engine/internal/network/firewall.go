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

// A firewall is the nftables tables of an engine, one for each version of IP. Their chains
// change with the networks; a published port is an element of a map and changes nothing else.
//
//	map ports      protocol . port           → address . port   (published on all addresses)
//	map addrports  address . protocol . port → address . port   (published on one)
//	set bridges    names of our interfaces
type firewall struct {
	tables [2]*table

	mu   sync.Mutex
	conn *nftables.Conn
}

// A table is of one version of IP.
type table struct {
	*nftables.Table
	family
	live  bool // it is there
	rules int  // how many it has
}

func newFirewall(name string) *firewall {
	f := &firewall{}
	for i, of := range []family{ipv4, ipv6} {
		f.tables[i] = &table{Table: &nftables.Table{Family: of.table, Name: name}, family: of}
	}
	return f
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

// rewrite replaces the tables, each in one step: there is no moment without rules.
func (f *firewall) rewrite(networks []Network, ports []target) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tables {
		if err := f.rewriteTable(t, networks, ports); err != nil {
			return err
		}
	}
	return nil
}

func (f *firewall) rewriteTable(t *table, networks []Network, ports []target) error {
	var ours []Network
	for _, n := range networks {
		if _, ok := n.Pool(t.v6); ok {
			ours = append(ours, n)
		}
	}
	if len(ours) == 0 && !t.live {
		return nil
	}
	c, err := f.begin()
	if err != nil {
		return err
	}
	c.AddTable(t.Table) // so that there is one to delete
	c.DelTable(t.Table)
	t.live = len(ours) > 0
	if !t.live {
		return errors.Join(f.commit("remove a table"), t.coexist(nil))
	}
	c.AddTable(t.Table)
	all, one, err := t.maps()
	if err != nil {
		return err
	}
	bridges := &nftables.Set{Table: t.Table, Name: "bridges", KeyType: nftables.TypeIFName}
	var names []nftables.SetElement
	for _, n := range ours {
		names = append(names, nftables.SetElement{Key: ifname(n.Bridge)})
	}
	anywhere, somewhere := t.elements(ports)
	err = errors.Join(c.AddSet(bridges, names), c.AddSet(all, anywhere), c.AddSet(one, somewhere))
	if err != nil {
		return fmt.Errorf("describe the firewall: %w", err)
	}
	t.chains(c, ours)
	if err := f.commit("write the rules of the networks"); err != nil {
		t.live = false
		return err
	}
	return t.coexist(ours)
}

func (t *table) chains(c *nftables.Conn, networks []Network) {
	t.rules = 0
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func(...[]expr.Any) {
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: hook, Priority: priority})
		return func(parts ...[]expr.Any) {
			t.rules++
			var all []expr.Any
			for _, part := range parts {
				all = append(all, part...)
			}
			c.AddRule(&nftables.Rule{Table: t.Table, Chain: ch, Exprs: all})
		}
	}
	raw := chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	in := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	leave := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	pass := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	in(toThisHost(), t.lookup("ports", false), t.dnat())
	in(toThisHost(), t.lookup("addrports", true), t.dnat())
	// The kernel does not translate packets to ::1; a proxy serves them.
	var notLoopback []expr.Any
	if t.v6 {
		notLoopback = t.notTo(netip.MustParsePrefix("::1/128"))
	}
	out(notLoopback, toThisHost(), t.lookup("ports", false), t.dnat())
	out(notLoopback, toThisHost(), t.lookup("addrports", true), t.dnat())
	pass(established(), accept())
	pass(translated(), accept())
	for _, n := range networks {
		pool, _ := n.Pool(t.v6)
		if !t.v6 {
			// route_localnet would let containers reach what listens on 127.0.0.1 only.
			raw(from(n.Bridge), t.to(netip.MustParsePrefix("127.0.0.0/8")), drop())
		}
		if n.Isolated {
			// Link-local addresses are not to be forwarded (RFC 3927 §7). Clouds give the keys of
			// the machine to whoever asks at one of them.
			if !t.v6 {
				pass(from(n.Bridge), t.to(netip.MustParsePrefix("169.254.0.0/16")), drop())
			}
			pass(from(n.Bridge), to(n.Bridge), drop())
		}
		pass(from(n.Bridge), to(n.Bridge), accept())
		if n.Internal {
			pass(from(n.Bridge), drop())
		} else if !n.Unmasked {
			leave(t.from(pool.Subnet), notTo(n.Bridge), masquerade())
		}
		// The answer to a container's own published port, or to 127.0.0.1, must come back here.
		leave(t.from(pool.Subnet), to(n.Bridge), translated(), masquerade())
		if !t.v6 {
			leave(t.from(netip.MustParsePrefix("127.0.0.0/8")), to(n.Bridge), masquerade())
		}
	}
	// Neither another network nor anybody outside reaches what is not published.
	pass(toOurs(), drop())
}

// publish points ports of the host at containers.
func (f *firewall) publish(ports []target) error {
	return f.change(ports, "publish ports", (*nftables.Conn).SetAddElements)
}

// withdraw takes them back.
func (f *firewall) withdraw(ports []target) error {
	if err := f.change(ports, "withdraw ports", (*nftables.Conn).SetDeleteElements); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

func (f *firewall) change(ports []target, doing string, apply func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.begin()
	if err != nil {
		return err
	}
	changed := false
	for _, t := range f.tables {
		anywhere, somewhere := t.elements(ports)
		if !t.live || len(anywhere)+len(somewhere) == 0 {
			continue
		}
		all, one, err := t.maps()
		if err != nil {
			return err
		}
		changed = true
		if len(anywhere) > 0 {
			err = apply(c, all, anywhere)
		}
		if err == nil && len(somewhere) > 0 {
			err = apply(c, one, somewhere)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	if !changed {
		return nil
	}
	return f.commit(doing)
}

// remove takes the tables away.
func (f *firewall) remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.begin()
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range f.tables {
		c.AddTable(t.Table)
		c.DelTable(t.Table)
		t.live = false
		errs = append(errs, t.coexist(nil))
	}
	return errors.Join(append(errs, f.commit("remove the tables"))...)
}

func (t *table) maps() (all, one *nftables.Set, err error) {
	value, verr := nftables.ConcatSetType(t.kind, nftables.TypeInetService)
	port, perr := nftables.ConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	addr, aerr := nftables.ConcatSetType(t.kind, nftables.TypeInetProto, nftables.TypeInetService)
	if err := errors.Join(verr, perr, aerr); err != nil {
		return nil, nil, fmt.Errorf("describe the maps of ports: %w", err)
	}
	all = &nftables.Set{Table: t.Table, Name: "ports", IsMap: true, Concatenation: true, KeyType: port, DataType: value}
	one = &nftables.Set{Table: t.Table, Name: "addrports", IsMap: true, Concatenation: true, KeyType: addr, DataType: value}
	return all, one, nil
}

// elements of the two maps. Each part of a key or value fills four bytes, or several fours.
func (t *table) elements(ports []target) (anywhere, somewhere []nftables.SetElement) {
	for _, p := range ports {
		if p.host.Addr().Is6() != t.v6 {
			continue
		}
		key := append([]byte{p.protocol, 0, 0, 0}, port4(p.host.Port())...)
		value := append(p.container.Addr().AsSlice(), port4(p.container.Port())...)
		if p.host.Addr().IsUnspecified() {
			anywhere = append(anywhere, nftables.SetElement{Key: key, Val: value})
			continue
		}
		somewhere = append(somewhere, nftables.SetElement{Key: append(p.host.Addr().AsSlice(), key...), Val: value})
	}
	return anywhere, somewhere
}

func port4(p uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, p), 0, 0)
}
