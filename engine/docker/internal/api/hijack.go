package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types"
	"golang.org/x/sys/unix"
)

// A Conn is a connection that has left HTTP.
type Conn struct {
	net.Conn
	ahead []byte // was read by the server
}

// Read goes around the server's reader, which would take the end of what is sent for the end of
// the request, and cancel its context.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite tells the client that nothing more comes; it may go on sending.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// StopReading ends a Read that goes on, and all later ones.
func (c *Conn) StopReading() { _ = c.SetReadDeadline(time.Unix(1, 0)) }

// goodbye is how long a client may take to close a connection after the last byte.
const goodbye = 2 * time.Second

// Finish tells the client that this was all, and closes the connection when the client did, or
// has had the time to: a connection that is closed with something unread loses what was sent.
// Readers are waited for with others.
func (c *Conn) Finish(others func()) {
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(goodbye))
	others()
	c.Hangup()
	_ = c.Close()
}

// Hangup reads and forgets what still comes, and returns when the client is gone altogether: one
// that only ceased to send may still listen. It reports false when Close was called, or it
// cannot be seen, as through TLS.
func (c *Conn) Hangup() bool {
	_, _ = io.Copy(io.Discard, c)
	sys, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds, 0)
		return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	}) == nil
}

// Hijack takes the connection, and answers: with 101 where the client wants to change to "tcp",
// otherwise with 200. Multiplexed says in what form the output comes. The caller closes it.
func Hijack(w http.ResponseWriter, r *http.Request, multiplexed bool) (*Conn, error) {
	raw, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	context.AfterFunc(r.Context(), func() { raw.Close() })       // a client that does not read must not hold the server
	ahead, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // these are there
	c := &Conn{Conn: raw, ahead: bytes.Clone(ahead)}
	if _, err := io.WriteString(raw, greeting(w.Header(), r, multiplexed)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// greeting is the answer's head. Until 1.42 the type did not tell of the form.
func greeting(h http.Header, r *http.Request, multiplexed bool) string {
	kind := types.MediaTypeRawStream
	if multiplexed && AtLeast(r, "1.42") && r.Header.Get("Upgrade") != "" {
		kind = types.MediaTypeMultiplexedStream
	}
	var b strings.Builder
	if r.Header.Get("Upgrade") != "" {
		b.WriteString("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
	} else {
		b.WriteString("HTTP/1.1 200 OK\r\n")
	}
	h.Set("Content-Type", kind)
	_ = h.Write(&b) // to memory
	b.WriteString("\r\n")
	return b.String()
}
