package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// A held port of the host: bound, so that nobody else takes it and a clash is seen.
type held struct {
	fd    int
	proxy *proxy // for IPv6, which is not translated; may be nil
}

// hold binds the port that p asks for, or any, and says in p which one.
func hold(p *Port, to netip.Addr) (held, error) {
	if p.Protocol == "" {
		p.Protocol = "tcp"
	}
	kind := unix.SOCK_STREAM
	switch p.Protocol {
	case "tcp":
	case "udp":
		kind = unix.SOCK_DGRAM
	default:
		return held{}, fault.Invalid("a port cannot have the protocol %q", p.Protocol).Try("use tcp or udp")
	}
	if p.Container == 0 {
		return held{}, fault.Invalid("a published port needs the port inside of the container")
	}
	addr := unix.SockaddrInet4{Port: int(p.Host)}
	if p.IP != "" {
		ip, err := netip.ParseAddr(p.IP)
		if err != nil || !ip.Is4() {
			return held{}, fault.Invalid("%q is not an IPv4 address to publish a port on", p.IP)
		}
		addr.Addr = ip.As4()
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return held{}, fmt.Errorf("publish a port: %w", err)
	}
	if err := unix.Bind(fd, &addr); err != nil {
		return held{}, errors.Join(errPort(*p, err), unix.Close(fd))
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return held{}, errors.Join(fmt.Errorf("publish a port: %w", err), unix.Close(fd))
	}
	p.Host = uint16(bound.(*unix.SockaddrInet4).Port)
	return held{fd: fd, proxy: proxyFor(*p, to)}, nil
}

func (h held) Close() {
	unix.Close(h.fd)
	if h.proxy != nil {
		h.proxy.Close()
	}
}

// A proxy carries TCP connections that come by IPv6.
type proxy struct {
	listener net.Listener
	to       string
	life     context.Context // of the proxy: a call that nobody answers ends with it
	end      context.CancelFunc
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: closed
}

// proxyFor is nil where IPv6 is off, where the port is taken there, or where p is for IPv4 alone.
func proxyFor(p Port, to netip.Addr) *proxy {
	host := "::"
	switch p.IP {
	case "", "0.0.0.0":
	case "127.0.0.1":
		host = "::1"
	default:
		return nil
	}
	if p.Protocol != "tcp" {
		return nil
	}
	l, err := net.Listen("tcp6", net.JoinHostPort(host, strconv.Itoa(int(p.Host))))
	if err != nil {
		return nil
	}
	life, end := context.WithCancel(context.Background())
	x := &proxy{listener: l, life: life, end: end, to: netip.AddrPortFrom(to, p.Container).String(), conns: map[net.Conn]struct{}{}}
	x.running.Go(x.serve)
	return x
}

func (x *proxy) serve() {
	for {
		in, err := x.listener.Accept()
		if err != nil {
			return
		}
		x.running.Go(func() { x.carry(in) })
	}
}

func (x *proxy) carry(in net.Conn) {
	defer in.Close()
	out, err := new(net.Dialer).DialContext(x.life, "tcp4", x.to)
	if err != nil {
		return
	}
	defer out.Close()
	if !x.keep(in, out) {
		return
	}
	defer x.drop(in, out)
	var back sync.WaitGroup
	back.Go(func() { pour(in, out) })
	pour(out, in)
	back.Wait()
}

// pour copies in the kernel and passes on the end of the stream.
func pour(to, from net.Conn) {
	io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

func (x *proxy) keep(conns ...net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range conns {
		if x.conns == nil {
			return false
		}
		x.conns[c] = struct{}{}
	}
	return true
}

func (x *proxy) drop(conns ...net.Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range conns {
		delete(x.conns, c)
	}
}

func (x *proxy) Close() {
	x.listener.Close()
	x.end()
	x.mu.Lock()
	for c := range x.conns {
		c.Close()
	}
	x.conns = nil
	x.mu.Unlock()
	x.running.Wait()
}
