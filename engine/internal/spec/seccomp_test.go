package spec_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"

	"sampan.dev/sampan/engine/internal/spec"
)

const (
	auditX8664   = 0xc000003e
	auditI386    = 0x40000003
	auditAArch64 = 0xc00000b7
	allow        = 0x7fff0000
	eperm        = 0x00050001
	enosys       = 0x00050026
	x32          = 0x40000000
)

// A call as the kernel shows it to a filter.
type call struct {
	arch, nr uint32
	args     [6]uint64
}

// ask runs the filter in the virtual machine of x/net/bpf. That reads words in network order,
// so the data is written that way: offsets and halves stay those of a little-endian machine.
func ask(t testing.TB, program []byte, c call) uint32 {
	t.Helper()
	var code []bpf.Instruction
	for in := range slices.Chunk(program, 8) {
		code = append(code, bpf.RawInstruction{
			Op: binary.LittleEndian.Uint16(in), Jt: in[2], Jf: in[3], K: binary.LittleEndian.Uint32(in[4:]),
		}.Disassemble())
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	data := binary.BigEndian.AppendUint32(nil, c.nr)
	data = binary.BigEndian.AppendUint32(data, c.arch)
	data = append(data, make([]byte, 8)...)
	for _, a := range c.args {
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	verdict, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

func program(t testing.TB, add ...string) []byte {
	t.Helper()
	caps, err := spec.Capabilities(false, add, nil)
	if err != nil {
		t.Fatal(err)
	}
	var f spec.Filters
	p, err := f.Program(caps.Bounding)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheDefaultProfile(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 || len(program(t)) == 0 {
		t.Skip("the numbers below are those of x86-64")
	}
	plain, admin := program(t), program(t, "SYS_ADMIN")
	const newUser = 0x10000000
	for _, c := range []struct {
		does   string
		filter []byte
		call   call
		want   uint32
	}{
		{"read", plain, call{auditX8664, 0, [6]uint64{}}, allow},
		{"execve", plain, call{auditX8664, 59, [6]uint64{}}, allow},
		{"mount", plain, call{auditX8664, 165, [6]uint64{}}, eperm},
		{"mount, with CAP_SYS_ADMIN", admin, call{auditX8664, 165, [6]uint64{}}, allow},
		{"unshare", plain, call{auditX8664, 272, [6]uint64{}}, eperm},
		{"kexec_load, with CAP_SYS_ADMIN", admin, call{auditX8664, 246, [6]uint64{}}, eperm},
		{"clone of a thread", plain, call{auditX8664, 56, [6]uint64{0x3d0f00}}, allow},
		{"clone of a process", plain, call{auditX8664, 56, [6]uint64{17}}, allow},
		{"clone with a user namespace", plain, call{auditX8664, 56, [6]uint64{newUser | 17}}, eperm},
		{"the same, with CAP_SYS_ADMIN", admin, call{auditX8664, 56, [6]uint64{newUser | 17}}, allow},
		{"clone3, whose flags cannot be seen", plain, call{auditX8664, 435, [6]uint64{}}, enosys},
		{"clone3, with CAP_SYS_ADMIN", admin, call{auditX8664, 435, [6]uint64{}}, allow},
		{"a socket of the internet", plain, call{auditX8664, 41, [6]uint64{2}}, allow},
		{"a socket of the hypervisor", plain, call{auditX8664, 41, [6]uint64{40}}, eperm},
		{"personality: linux", plain, call{auditX8664, 135, [6]uint64{0}}, allow},
		{"personality: ask", plain, call{auditX8664, 135, [6]uint64{0xffffffff}}, allow},
		{"personality: with high bits", plain, call{auditX8664, 135, [6]uint64{1 << 32}}, eperm},
		{"personality: another", plain, call{auditX8664, 135, [6]uint64{0x40000}}, eperm},
		{"read of x32, whose number is 0", plain, call{auditX8664, x32, [6]uint64{}}, allow},
		{"mount of x32", plain, call{auditX8664, x32 | 165, [6]uint64{}}, eperm},
		{"read of i386", plain, call{auditI386, 3, [6]uint64{}}, allow},
		{"mount of i386", plain, call{auditI386, 21, [6]uint64{}}, eperm},
		{"a number that no call has", plain, call{auditX8664, 9999, [6]uint64{}}, eperm},
		{"the highest number", plain, call{auditX8664, 0xffffffff, [6]uint64{}}, eperm},
		{"another machine's call", plain, call{auditAArch64, 63, [6]uint64{}}, eperm},
	} {
		if got := ask(t, c.filter, c.call); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.does, got, c.want)
		}
	}
}

// Every comparison does what its name says, at the edges of both halves of an argument.
func TestComparisons(t *testing.T) {
	edges := []uint64{0, 1, 5, 6, 7, 0xffffffff, 1 << 32, 1<<32 | 5, 1<<32 | 6, 1<<32 | 7, 2<<32 | 6, ^uint64(0)}
	for op, holds := range map[specs.LinuxSeccompOperator]func(a, v, two uint64) bool{
		specs.OpEqualTo:      func(a, v, _ uint64) bool { return a == v },
		specs.OpNotEqual:     func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan:     func(a, v, _ uint64) bool { return a < v },
		specs.OpLessEqual:    func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan:  func(a, v, _ uint64) bool { return a > v },
		specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual:  func(a, v, two uint64) bool { return a&v == two },
	} {
		for _, value := range edges {
			two := value & 4
			p, err := spec.Compile(&specs.LinuxSeccomp{
				DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
					{Index: 3, Value: value, ValueTwo: two, Op: op},
					{Index: 1, Value: 9, Op: specs.OpNotEqual}, // all must hold
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range edges {
				want := uint32(eperm)
				if holds(a, value, two) {
					want = allow
				}
				if got := ask(t, p, call{auditX8664, 0, [6]uint64{3: a}}); got != want {
					t.Errorf("%#x %s %#x (%#x): %#x, want %#x", a, op, value, two, got, want)
				}
				if got := ask(t, p, call{auditX8664, 0, [6]uint64{1: 9, 3: a}}); got != eperm {
					t.Errorf("%#x %s %#x was enough without the second argument", a, op, value)
				}
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for what, p := range map[string]*specs.LinuxSeccomp{
		"an action that needs a listener": {DefaultAction: specs.ActNotify},
		"a seventh argument": {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
	} {
		if _, err := spec.Compile(p); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	caps, err := spec.Capabilities(false, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var f spec.Filters
		p, err := f.Program(caps.Bounding)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(p)/8), "instructions")
	}
}
