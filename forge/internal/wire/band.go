package wire

import (
	"io"
	"sync"
)

// Bands of the side band.
const (
	BandData     = 1 // the report
	BandProgress = 2 // text that the client shows behind "remote: "
	BandError    = 3 // the last words: the client shows them and fails
)

// A SideBand carries several streams in one. It is safe for concurrent use: progress,
// keepalives and the report come from different goroutines.
type SideBand struct {
	mu   sync.Mutex
	w    io.Writer
	max  int
	buf  []byte
	err  error
	sent bool // since the last Idle
}

// NewSideBand writes to w; small is the older side-band capability, with short lines.
func NewSideBand(w io.Writer, small bool) *SideBand {
	max := MaxPayload - 1
	if small {
		max = 1000 - 5
	}
	return &SideBand{w: w, max: max}
}

// Band is one stream as a Writer.
func (s *SideBand) Band(n byte) io.Writer { return band{s, n} }

type band struct {
	s *SideBand
	n byte
}

func (b band) Write(p []byte) (int, error) { return b.s.write(b.n, p) }

func (s *SideBand) write(n byte, p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = true
	for done := 0; done < len(p); {
		part := p[done:min(len(p), done+s.max)]
		s.put(n, part)
		if s.err != nil {
			return done, s.err
		}
		done += len(part)
	}
	return len(p), nil
}

// put sends one packet in one Write, so that an encrypted channel makes one record of it.
func (s *SideBand) put(n byte, part []byte) {
	if s.err != nil {
		return
	}
	s.buf = append(s.buf[:0], hex4(len(part)+5)...)
	s.buf = append(s.buf, n)
	s.buf = append(s.buf, part...)
	_, s.err = s.w.Write(s.buf)
}

func hex4(n int) []byte {
	const digits = "0123456789abcdef"
	return []byte{digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]}
}

// Idle sends an empty packet when nothing was sent since the last call. Called now and
// then, it keeps proxies from closing a connection on which a build is silent.
func (s *SideBand) Idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sent {
		s.put(BandData, nil)
	}
	s.sent = false
}

// Close ends the stream with a flush packet.
func (s *SideBand) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		_, s.err = s.w.Write(AppendFlush(nil))
	}
	return s.err
}
