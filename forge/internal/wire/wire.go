// Package wire reads and writes git's wire formats: pkt-lines, the side band, and the
// command list and report of a push.
//
// It follows gitprotocol-common(5), gitprotocol-capabilities(5) and gitprotocol-pack(5).
// Everything that it reads comes from outside: each length is bounded before memory is
// taken, and a malformed line is an error, never a panic.
package wire

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxPayload is the longest payload of one pkt-line.
const MaxPayload = 65520 - 4

// ErrMalformed is wrapped by every error about bytes that are not git's protocol.
var ErrMalformed = errors.New("malformed git protocol")

// A Kind tells a line with a payload from the special packets.
type Kind int

const (
	Data        Kind = iota
	Flush            // 0000: end of a list
	Delim            // 0001: between sections, protocol v2
	ResponseEnd      // 0002: end of a stateless response, protocol v2
)

// A Reader reads pkt-lines. The payload that it returns is valid until the next call.
type Reader struct {
	r   io.Reader
	buf [MaxPayload]byte
}

// NewReader reads from r and never past the line asked for, so that what follows the
// lines (a pack) can be read from r itself.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next reads one packet. io.EOF means that the stream ended between packets.
func (r *Reader) Next() (Kind, []byte, error) {
	head := r.buf[:4]
	if _, err := io.ReadFull(r.r, head); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, nil, fmt.Errorf("%w: the stream ends within a length", ErrMalformed)
		}
		return 0, nil, err
	}
	n, err := length(head)
	if err != nil {
		return 0, nil, err
	}
	if n < 4 {
		return Kind(n + 1), nil, nil
	}
	payload := r.buf[:n-4]
	if _, err := io.ReadFull(r.r, payload); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, nil, fmt.Errorf("%w: the stream ends within a line", ErrMalformed)
		}
		return 0, nil, err
	}
	return Data, payload, nil
}

// length decodes four hexadecimal digits: a length with its own four bytes, or 0 to 2.
func length(head []byte) (int, error) {
	n, err := strconv.ParseUint(string(head), 16, 16)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %q is no length", ErrMalformed, head)
	case n == 3 || n > MaxPayload+4:
		return 0, fmt.Errorf("%w: a line cannot be %d bytes long", ErrMalformed, n)
	}
	return int(n), nil
}

// Append adds one line to b. The payload must not be longer than MaxPayload.
func Append(b []byte, payload string) []byte {
	b = fmt.Appendf(b, "%04x", len(payload)+4)
	return append(b, payload...)
}

// AppendFlush adds a flush packet to b.
func AppendFlush(b []byte) []byte { return append(b, "0000"...) }
