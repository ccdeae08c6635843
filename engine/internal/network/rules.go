package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The parts of rules, each named as the nft program would write it. Registers are the
// 32-bit ones: the parts of a concatenated key lie side by side in them.
const (
	reg0 = unix.NFT_REG32_00
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
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

func address(offset uint32, p netip.Prefix) []expr.Any {
	mask := net.CIDRMask(p.Bits(), 32)
	return []expr.Any{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: p.Masked().Addr().AsSlice()},
	}
}

func fromPrefix(p netip.Prefix) []expr.Any { return address(12, p) }
func toPrefix(p netip.Prefix) []expr.Any   { return address(16, p) }

// toThisHost is fib daddr type local.
func toThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg0, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// lookup finds the packet's destination in a map; the rule ends where it is not in it.
func lookup(name string, withAddress bool) []expr.Any {
	var parts []expr.Any
	register := uint32(reg0)
	if withAddress {
		parts = append(parts, &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4})
		register++
	}
	return append(parts,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Payload{DestRegister: register + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: name},
	)
}

// dnat goes where lookup found.
func dnat() []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0, RegProtoMin: reg1, Specified: true}}
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

// mark tells our rules in other people's chains.
const mark = "sampan"

// coexist lets our packets pass where another program's chain drops what it does not know:
// an accept in our table does not overrule a drop in another one. Docker gives people the
// chain DOCKER-USER for that; where FORWARD drops without it, the rule goes to its head.
func coexist(networks []Network) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("list the chains of other programs: %w", err)
	}
	target := foreign(chains)
	if target == nil {
		return nil
	}
	rules, err := c.GetRules(target.Table, target)
	if err != nil {
		return fmt.Errorf("list the rules of %s: %w", target.Name, err)
	}
	there := map[string]bool{}
	for _, r := range rules {
		there[string(r.UserData)] = true
	}
	for _, n := range networks {
		for way, part := range map[string][]expr.Any{"in": from(n.Bridge), "out": to(n.Bridge)} {
			tag := userData(mark + " " + n.Bridge + " " + way)
			if !there[string(tag)] {
				c.InsertRule(&nftables.Rule{Table: target.Table, Chain: target, UserData: tag, Exprs: append(part, accept()...)})
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("let containers pass the chain %s: %w", target.Name, err)
	}
	return nil
}

// foreign is the chain of another program that would drop our packets, or nil.
func foreign(chains []*nftables.Chain) *nftables.Chain {
	var found *nftables.Chain
	for _, ch := range chains {
		if ch.Table.Name != "filter" {
			continue
		}
		switch {
		case ch.Name == "DOCKER-USER":
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
