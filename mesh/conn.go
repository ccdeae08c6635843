package mesh

import (
	"bufio"
	"errors"
	"math"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	buffer         = 4 << 10
	maxReplyHeader = 256 << 10 // of one response from a backend
	fresh          = 20 * time.Millisecond
)

var (
	errHeaderTooLarge = errors.New("the response header is too large")
	errNoReply        = errors.New("the connection was closed before any response")
)

// A conn is an HTTP/1.1 connection to a backend. It carries one request at a time, in the
// goroutine of the request: there is nothing to hand over and nothing to wake.
type conn struct {
	net.Conn
	raw    syscall.RawConn
	br     *bufio.Reader
	bw     *bufio.Writer
	left   int64 // bytes that may still be read
	reused bool
	since  time.Time // idle since then
}

func newConn(nc net.Conn) *conn {
	c := &conn{Conn: nc, left: math.MaxInt64}
	if s, ok := nc.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	c.br = bufio.NewReaderSize(c, buffer)
	c.bw = bufio.NewWriterSize(nc, buffer)
	return c
}

// Read counts, so that a backend cannot send a header without end.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLarge
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

// response reads the next response's header. errNoReply: not a byte of it came.
func (c *conn) response(r *http.Request) (*http.Response, error) {
	c.left = maxReplyHeader
	if _, err := c.br.Peek(1); err != nil {
		return nil, errors.Join(errNoReply, err)
	}
	resp, err := http.ReadResponse(c.br, r)
	c.left = math.MaxInt64
	return resp, err
}

// alive looks whether the backend has closed an idle connection: there is nothing to read
// from one that is fine. Unless careful,
// those just used are taken as they are, for the look costs a system call.
func (c *conn) alive(careful bool) bool {
	if c.br.Buffered() > 0 {
		return false
	}
	if c.raw == nil || (!careful && time.Since(c.since) < fresh) {
		return true
	}
	alive := false
	err := c.raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = err == syscall.EAGAIN
		return true
	})
	return err == nil && alive
}
