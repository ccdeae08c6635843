package dockerfile

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// The holder is a container whose one process sleeps for ever.
const (
	holderImage = "sampan.local/holder:1"
	holderPath  = "/hold"
)

// makeHolder makes the holder's image.
func makeHolder(ctx context.Context, e *engine.Engine) error {
	if _, err := e.Image(ctx, holderImage); !fault.Is(err, fault.KindNotFound) {
		return err
	}
	program, err := sleeper(runtime.GOARCH)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: holderPath[1:], Mode: 0o755, Size: int64(len(program))}); err != nil {
		return fmt.Errorf("make the holder: %w", err)
	}
	if _, err := w.Write(program); err != nil {
		return fmt.Errorf("make the holder: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("make the holder: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }
	if _, err := e.Assemble(ctx, holderImage, "", []engine.Layer{{Open: open}}, engine.ImageConfig{}); err != nil {
		return fmt.Errorf("make the holder: %w", err)
	}
	return nil
}

// sleeper is an ELF program of one system call in a loop: pause(2), or ppoll(2) of nothing
// where there is no pause. It saves a compiler and the megabytes of a runtime.
func sleeper(arch string) ([]byte, error) {
	var code []byte
	var machine elf.Machine
	switch arch {
	case "amd64":
		machine = elf.EM_X86_64
		code = []byte{
			0xb8, 0x22, 0, 0, 0, // again: mov eax, 34 (pause)
			0x0f, 0x05, // syscall
			0xeb, 0xf7, // jmp again
		}
	case "arm64":
		machine = elf.EM_AARCH64
		for _, word := range []uint32{
			0xd2800000, // again: mov x0, 0
			0xd2800001, // mov x1, 0
			0xd2800002, // mov x2, 0
			0xd2800003, // mov x3, 0
			0xd2800928, // mov x8, 73 (ppoll)
			0xd4000001, // svc 0
			0x17fffffa, // b again
		} {
			code = binary.LittleEndian.AppendUint32(code, word)
		}
	default:
		return nil, fault.Unavailable("Dockerfiles cannot be built on %s", arch)
	}
	const at = 0x10000
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Ehsize: 64, Phentsize: 56, Phnum: 1, Phoff: 64,
	}
	begin := uint64(head.Ehsize + head.Phentsize)
	head.Entry = at + begin
	size := begin + uint64(len(code))
	segment := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: at, Paddr: at, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var file bytes.Buffer
	for _, part := range []any{head, segment, code} {
		if err := binary.Write(&file, binary.LittleEndian, part); err != nil {
			return nil, fmt.Errorf("make the holder: %w", err)
		}
	}
	return file.Bytes(), nil
}
