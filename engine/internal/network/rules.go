package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The parts of rules, each named as the nft program would write it. Registers are the
// 32-bit ones: the parts of a concatenated key lie side by side in them.
const reg0 = unix.NFT_REG32_00

// A family is what differs between the versions of IP.
type family struct {
	v6          bool
	table       nftables.TableFamily
	nat         uint32
	kind        nftables.SetDatatype
	source, dst uint32 // where the addresses are in the header
	size        uint32 // of an address
}

var (
	ipv4 = family{table: nftables.TableFamilyIPv4, nat: unix.NFPROTO_IPV4, kind: nftables.TypeIPAddr, source: 12, dst: 16, size: 4}
	ipv6 = family{v6: true, table: nftables.TableFamilyIPv6, nat: unix.NFPROTO_IPV6, kind: nftables.TypeIP6Addr, source: 8, dst: 24, size: 16}
)

func ifname(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

func iface(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: ifname(name)},
	}
}

func from(bridge string) []expr.Any  { return iface(expr.MetaKeyIIFNAME, expr.CmpOpEq, bridge) }
func to(bridge string) []expr.Any    { return iface(expr.MetaKeyOIFNAME, expr.CmpOpEq, bridge) }
func notTo(bridge string) []expr.Any { return iface(expr.MetaKeyOIFNAME, expr.CmpOpNeq, bridge) }

// toOurs is oifname @bridges.
func toOurs() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_1},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: "bridges"},
	}
}

func (f family) address(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	mask := net.CIDRMask(p.Bits(), int(8*f.size))
	return []expr.Any{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: f.size, Mask: mask, Xor: make([]byte, f.size)},
		&expr.Cmp{Op: op, Register: reg0, Data: p.Masked().Addr().AsSlice()},
	}
}

func (f family) from(p netip.Prefix) []expr.Any  { return f.address(f.source, expr.CmpOpEq, p) }
func (f family) to(p netip.Prefix) []expr.Any    { return f.address(f.dst, expr.CmpOpEq, p) }
func (f family) notTo(p netip.Prefix) []expr.Any { return f.address(f.dst, expr.CmpOpNeq, p) }

// toThisHost is fib daddr type local.
func toThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// lookup finds the packet's destination in a map; the rule ends where it is not in it.
func (f family) lookup(name string, withAddress bool) []expr.Any {
	var parts []expr.Any
	register := uint32(reg0)
	if withAddress {
		parts = append(parts, &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.dst, Len: f.size})
		register += f.size / 4
	}
	return append(parts,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Payload{DestRegister: register + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: name},
	)
}

// dnat goes where lookup found.
func (f family) dnat() []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.nat, RegAddrMin: reg0, RegProtoMin: reg0 + f.size/4, Specified: true}}
}

// conntrack is a test of bits that the connection may have.
func conntrack(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

func established() []expr.Any {
	return conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// translated is ct status dnat: the connection came by a published port.
func translated() []expr.Any {
	const ipsDstNAT = 1 << 5
	return conntrack(expr.CtKeySTATUS, ipsDstNAT)
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }
func accept() []expr.Any     { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any       { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

// coexist lets our packets pass where another program's chain drops what it does not know:
// an accept in our table does not overrule a drop in another one. Docker gives people the
// chain DOCKER-USER for that; where FORWARD drops without it, the rule goes to its head.
// Rules of ours there bear the table's name and go when the table goes.
func (t *table) coexist(networks []Network) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(t.table)
	if err != nil {
		return fmt.Errorf("list the chains of other programs: %w", err)
	}
	wanted := map[string][]expr.Any{}
	for _, n := range networks {
		wanted[t.tag(n.Bridge, "in")] = append(from(n.Bridge), accept()...)
		wanted[t.tag(n.Bridge, "out")] = append(to(n.Bridge), accept()...)
	}
	target := foreign(chains)
	for _, chain := range chains {
		if chain.Table.Name != "filter" || chain.Name != userChain && chain.Name != "FORWARD" {
			continue
		}
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return fmt.Errorf("list the rules of %s: %w", chain.Name, err)
		}
		for _, r := range rules {
			if !t.tagged(r.UserData) {
				continue
			}
			if chain == target && wanted[string(r.UserData)] != nil {
				delete(wanted, string(r.UserData))
				continue
			}
			if err := c.DelRule(r); err != nil {
				return fmt.Errorf("take a rule out of %s: %w", chain.Name, err)
			}
		}
	}
	for tag, parts := range wanted {
		if target != nil {
			c.InsertRule(&nftables.Rule{Table: target.Table, Chain: target, UserData: []byte(tag), Exprs: parts})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("let containers pass the chains of other programs: %w", err)
	}
	return nil
}

// tag is the comment of a rule of ours in somebody else's chain.
func (t *table) tag(bridge, way string) string {
	return string(userData(t.Name + " " + bridge + " " + way))
}

func (t *table) tagged(data []byte) bool {
	return len(data) > 2 && strings.HasPrefix(string(data[2:]), t.Name+" ")
}

// userChain is where Docker lets people add rules of their own.
const userChain = "DOCKER-USER"

// foreign is the chain of another program that would drop our packets, or nil.
func foreign(chains []*nftables.Chain) *nftables.Chain {
	var found *nftables.Chain
	for _, ch := range chains {
		if ch.Table.Name != "filter" {
			continue
		}
		switch {
		case ch.Name == userChain:
			return ch
		case ch.Name == "FORWARD" && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop:
			found = ch
		}
	}
	return found
}

// userData is a comment as the nft program writes it: type, length, text, zero.
func userData(text string) []byte {
	return append(append([]byte{0, byte(len(text) + 1)}, text...), 0)
}
