package api

import (
	"encoding/binary"
	"io"
	"sync"
)

// Streams of a Mux.
const (
	Stdin  byte = 0
	Stdout byte = 1
	Stderr byte = 2
	System byte = 3 // a message of the engine's: the client reports it as an error
)

// A Mux puts several streams into one: before each piece are eight bytes, the stream's number,
// three zeros and the length (big-endian). It is safe for concurrent use.
type Mux struct {
	w io.Writer

	mu  sync.Mutex
	buf []byte
}

// NewMux writes to w, each piece in one call.
func NewMux(w io.Writer) *Mux { return &Mux{w: w} }

// Writer is one of the streams.
func (m *Mux) Writer(stream byte) io.Writer { return muxed{m, stream} }

type muxed struct {
	mux    *Mux
	stream byte
}

func (w muxed) Write(p []byte) (int, error) { return w.mux.write(w.stream, p) }

// maxKept is the largest buffer that is kept from one piece to the next.
const maxKept = 64 << 10

func (m *Mux) write(stream byte, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := append(m.buf[:0], stream, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	b = append(b, p...)
	if cap(b) <= maxKept {
		m.buf = b
	}
	if _, err := m.w.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}
