package spec

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"

	"sampan.dev/sampan/internal/fault"
)

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// A compiler writes one filter: a part for each architecture, in which a binary search over
// the call's number finds what is to be done.
type compiler struct {
	profile  *specs.LinuxSeccomp
	fallback uint32
	code     []bpf.Instruction
}

func (c *compiler) emit(in ...bpf.Instruction) { c.code = append(c.code, in...) }

// A rule is one way for a call to get a verdict other than the default.
type rule struct {
	verdict uint32
	args    []specs.LinuxSeccompArg // all of them must hold
}

// A span is a run of call numbers, from start to the next span's, that are treated alike.
type span struct {
	start uint32
	rules []rule // in order; the default comes after the last
}

func (s span) same(o span) bool {
	return slices.EqualFunc(s.rules, o.rules, func(a, b rule) bool {
		return a.verdict == b.verdict && len(a.args) == 0 && len(b.args) == 0
	})
}

// architecture is entered and left with the audit number of the architecture loaded.
func (c *compiler) architecture(a specs.Arch) error {
	table, audit, ok := tables(a)
	if !ok {
		return nil
	}
	rules, err := c.rules(table.SyscallNames, 0)
	if err != nil {
		return err
	}
	if a == specs.ArchX86_64 && slices.Contains(c.profile.Architectures, specs.ArchX32) {
		x32, _, _ := tables(specs.ArchX32)
		more, err := c.rules(x32.SyscallNames, x32Bit)
		if err != nil {
			return err
		}
		maps.Copy(rules, more)
	}
	c.unless(bpf.JumpEqual, audit, func() {
		c.emit(bpf.LoadAbsolute{Off: offNr, Size: 4})
		c.search(spans(rules))
	})
	return nil
}

// rules collects what the profile says of each call, unconditional rules last.
func (c *compiler) rules(numbers map[string]int, bit uint32) (map[uint32][]rule, error) {
	of := map[uint32][]rule{}
	for _, s := range c.profile.Syscalls {
		verdict, err := action(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if err := check(s.Args); err != nil {
			return nil, err
		}
		for _, name := range s.Names {
			if n, ok := numbers[name]; ok {
				nr := uint32(n)&^x32Bit | bit
				of[nr] = append(of[nr], rule{verdict, s.Args})
			}
		}
	}
	for nr, list := range of {
		slices.SortStableFunc(list, func(a, b rule) int { return min(len(b.args), 1) - min(len(a.args), 1) })
		if i := slices.IndexFunc(list, func(r rule) bool { return len(r.args) == 0 }); i >= 0 {
			of[nr] = list[:i+1] // nothing comes after a rule without conditions
		}
	}
	return of, nil
}

// spans covers all numbers from 0 up.
func spans(rules map[uint32][]rule) []span {
	all := []span{{}}
	add := func(s span) {
		if all[len(all)-1].start == s.start {
			all = all[:len(all)-1]
		}
		if len(all) == 0 || !all[len(all)-1].same(s) {
			all = append(all, s)
		}
	}
	for _, nr := range slices.Sorted(maps.Keys(rules)) {
		add(span{nr, rules[nr]})
		add(span{start: nr + 1})
	}
	return all
}

// search is entered with the number loaded; it does not come back.
func (c *compiler) search(s []span) {
	if len(s) == 1 {
		c.verdict(s[0].rules)
		return
	}
	middle := len(s) / 2
	c.unless(bpf.JumpLessThan, s[middle].start, func() { c.search(s[:middle]) })
	c.search(s[middle:])
}

// unless emits body, to be done if the loaded value passes the test, else jumped over. A
// conditional jump reaches 255 instructions, a plain one any number.
func (c *compiler) unless(test bpf.JumpTest, value uint32, body func()) {
	at := len(c.code)
	c.emit(nil, nil)
	body()
	over := len(c.code) - at - 2
	if over <= 255 {
		c.code = slices.Delete(c.code, at+1, at+2)
		c.code[at] = bpf.JumpIf{Cond: test, Val: value, SkipFalse: uint8(over)}
		return
	}
	c.code[at] = bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1}
	c.code[at+1] = bpf.Jump{Skip: uint32(over)}
}

// verdict tries the rules in order.
func (c *compiler) verdict(rules []rule) {
	for _, r := range rules {
		if len(r.args) == 0 {
			c.emit(bpf.RetConstant{Val: r.verdict})
			return
		}
		c.conditions(r.args, func() { c.emit(bpf.RetConstant{Val: r.verdict}) })
	}
	c.emit(bpf.RetConstant{Val: c.fallback})
}

// conditions emits body behind tests that all must hold.
func (c *compiler) conditions(args []specs.LinuxSeccompArg, body func()) {
	if len(args) == 0 {
		body()
		return
	}
	inner := func() { c.conditions(args[1:], body) }
	a := args[0]
	at, low := offArgs+8*uint32(a.Index), lowHalf()
	c.compare(a, bpf.LoadAbsolute{Off: at + low, Size: 4}, bpf.LoadAbsolute{Off: at + 4 - low, Size: 4}, inner)
}

// lowHalf is where the low half of a 64-bit word lies.
func lowHalf() uint32 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return 0
	}
	return 4
}

// compare tests one 64-bit argument in two halves of 32 bits.
func (c *compiler) compare(a specs.LinuxSeccompArg, low, high bpf.LoadAbsolute, body func()) {
	lo, hi := uint32(a.Value), uint32(a.Value>>32)
	switch a.Op {
	case specs.OpEqualTo:
		c.halves(high, ^uint32(0), hi, low, ^uint32(0), lo, body)
	case specs.OpMaskedEqual: // Value is the mask, ValueTwo what must be left
		c.halves(high, hi, uint32(a.ValueTwo>>32), low, lo, uint32(a.ValueTwo), body)
	case specs.OpNotEqual:
		c.otherwise(body, func(is func()) { c.halves(high, ^uint32(0), hi, low, ^uint32(0), lo, is) })
	case specs.OpGreaterThan:
		c.ordered(high, hi, low, lo, bpf.JumpGreaterThan, body)
	case specs.OpGreaterEqual:
		c.ordered(high, hi, low, lo, bpf.JumpGreaterOrEqual, body)
	case specs.OpLessThan:
		c.otherwise(body, func(is func()) { c.ordered(high, hi, low, lo, bpf.JumpGreaterOrEqual, is) })
	case specs.OpLessEqual:
		c.otherwise(body, func(is func()) { c.ordered(high, hi, low, lo, bpf.JumpGreaterThan, is) })
	}
}

func (c *compiler) halves(high bpf.LoadAbsolute, hiMask, hi uint32, low bpf.LoadAbsolute, loMask, lo uint32, body func()) {
	c.masked(high, hiMask)
	c.unless(bpf.JumpEqual, hi, func() {
		c.masked(low, loMask)
		c.unless(bpf.JumpEqual, lo, body)
	})
}

func (c *compiler) masked(word bpf.LoadAbsolute, mask uint32) {
	c.emit(word)
	if mask != ^uint32(0) {
		c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
	}
}

// ordered does body if the argument is greater by its high half, or by its low half where
// the high ones are equal.
func (c *compiler) ordered(high bpf.LoadAbsolute, hi uint32, low bpf.LoadAbsolute, lo uint32, test bpf.JumpTest, body func()) {
	c.emit(high)
	c.unless(bpf.JumpGreaterThan, hi, body)
	c.emit(high)
	c.unless(bpf.JumpEqual, hi, func() {
		c.emit(low)
		c.unless(test, lo, body)
	})
}

// A hole is where a jump will be whose goal is not known yet.
type hole struct{ bpf.Jump }

// otherwise does body if what test does never comes to its own body.
func (c *compiler) otherwise(body func(), test func(is func())) {
	from := len(c.code)
	test(func() { c.emit(hole{}) })
	to := len(c.code)
	body()
	for at := from; at < to; at++ {
		if _, ok := c.code[at].(hole); ok {
			c.code[at] = bpf.Jump{Skip: uint32(len(c.code) - at - 1)}
		}
	}
}

// check refuses comparisons that the kernel's data has no place for.
func check(args []specs.LinuxSeccompArg) error {
	known := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual, specs.OpGreaterThan,
		specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual,
	}
	for _, a := range args {
		if a.Index > 5 || !slices.Contains(known, a.Op) {
			return fault.Invalid("the seccomp profile compares argument %d by %q, which is not possible", a.Index, string(a.Op))
		}
	}
	return nil
}
