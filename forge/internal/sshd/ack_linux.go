package sshd

import (
	"net"
	"syscall"
)

// promptly acknowledges what comes at once. OpenSSH sends the end of its key exchange and
// its first request in two small packets and, until it is signed in, holds the second
// back for the acknowledgment of the first (RFC 896), which Linux delays by 40 ms.
type promptly struct {
	net.Conn
	raw syscall.RawConn
}

func withPromptAcks(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	return promptly{c, raw}
}

func (p promptly) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	// Linux forgets the option now and then, so it is set each time; failing costs speed only.
	p.raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
	return n, err
}
