package spec

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"

	"sampan.dev/sampan/internal/fault"
)

// Filters compiles Docker's default seccomp profile, once for each set of capabilities. The
// zero value is ready; it is safe for concurrent use.
type Filters struct {
	mu   sync.Mutex
	made map[string][]byte
}

// Program returns the filter for a container with these capabilities in its bounding set, as
// an array of struct sock_filter in the machine's byte order. It must not be changed.
func (f *Filters) Program(bounding []string) ([]byte, error) {
	sorted := slices.Sorted(slices.Values(bounding))
	key := strings.Join(sorted, " ")
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.made[key]; ok {
		return p, nil
	}
	profile, err := DefaultProfile(sorted)
	if err != nil {
		return nil, err
	}
	p, err := Compile(profile)
	if err != nil {
		return nil, fmt.Errorf("compile the default seccomp profile: %w", err)
	}
	if f.made == nil || len(f.made) >= 64 { // few sets are in use; an odd caller must not fill the memory
		f.made = map[string][]byte{}
	}
	f.made[key] = p
	return p, nil
}

// Custom compiles a profile in Docker's format, for a container with these capabilities in its
// bounding set.
func Custom(text string, bounding []string) ([]byte, error) {
	profile, err := seccomp.LoadProfile(text, capable(bounding))
	if err != nil {
		return nil, fault.Invalid("the seccomp profile cannot be used: %w", err).Try("write it as in https://docs.docker.com/engine/security/seccomp")
	}
	return Compile(profile)
}

func capable(bounding []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}}}
}

// DefaultProfile is Docker's, for this machine and these capabilities in the bounding set.
func DefaultProfile(bounding []string) (*specs.LinuxSeccomp, error) {
	profile, err := seccomp.GetDefaultProfile(capable(bounding))
	if err != nil {
		return nil, fmt.Errorf("read the default seccomp profile: %w", err)
	}
	return profile, nil
}

// The x32 calls of x86-64 are told apart by this bit of their number.
const x32Bit = 0x4000_0000

// maxProgram is the kernel's limit (BPF_MAXINSNS).
const maxProgram = 4096

// Compile turns a profile into a filter. Calls of an architecture that the profile does not
// name, and calls that it has no rule for, get its default action.
func Compile(profile *specs.LinuxSeccomp) ([]byte, error) {
	c := compiler{profile: profile}
	fallback, err := action(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	c.fallback = fallback
	c.emit(bpf.LoadAbsolute{Off: offArch, Size: 4})
	for _, a := range profile.Architectures {
		if a == specs.ArchX32 { // shares its audit number with x86-64, which looks after it
			continue
		}
		if err := c.architecture(a); err != nil {
			return nil, err
		}
	}
	c.emit(bpf.RetConstant{Val: c.fallback})
	if len(c.code) > maxProgram {
		return nil, fault.Invalid("the seccomp profile needs %d instructions, %d are possible", len(c.code), maxProgram)
	}
	raw, err := bpf.Assemble(c.code)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter: %w", err)
	}
	return marshal(raw), nil
}

func marshal(code []bpf.RawInstruction) []byte {
	b := make([]byte, 0, 8*len(code))
	for _, in := range code {
		b = binary.NativeEndian.AppendUint16(b, in.Op)
		b = append(b, in.Jt, in.Jf)
		b = binary.NativeEndian.AppendUint32(b, in.K)
	}
	return b
}

// tables are the numbers of the calls by name. An architecture without a table, or a name
// that the table lacks, gets the default action: stricter than asked, never laxer.
func tables(a specs.Arch) (table *arch.Info, audit uint32, ok bool) {
	switch a {
	case specs.ArchX86_64:
		table = arch.X86_64
	case specs.ArchX86:
		table = arch.I386
	case specs.ArchX32:
		table = arch.X32
	case specs.ArchAARCH64:
		table = arch.AARCH64
	case specs.ArchARM:
		table = arch.ARM
	default:
		return nil, 0, false
	}
	return table, uint32(table.ID), true
}

// Return values of a filter (seccomp.h).
const (
	retKillProcess = 0x8000_0000
	retKillThread  = 0x0000_0000
	retTrap        = 0x0003_0000
	retErrno       = 0x0005_0000
	retTrace       = 0x7ff0_0000
	retLog         = 0x7ffc_0000
	retAllow       = 0x7fff_0000
	retData        = 0x0000_ffff
	eperm          = 1
)

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(eperm)
	if errno != nil {
		data = uint32(*errno) & retData
	}
	switch a {
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActLog:
		return retLog, nil
	}
	return 0, fault.Invalid("the seccomp action %q is not supported", string(a))
}
