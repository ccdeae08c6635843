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
	"time"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/internal/fault"
)

// A Port of a container that answers on the host.
type Port struct {
	IP        string // of the host; empty: all addresses
	Host      uint16 // zero: any that is free
	HostEnd   uint16 // with Host, a range of which one is taken; zero: Host alone
	Container uint16
	Protocol  string // "tcp" (also when empty), "udp" or "sctp"

	twin bool // the one before it is the same port of the other version of IP
}

func (p Port) number() byte {
	switch p.Protocol {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// A target is where a port of the host leads.
type target struct {
	host      netip.AddrPort // an unspecified address: all of its version
	protocol  byte
	container netip.AddrPort
}

// targets are those of ports in the kernel's rules: of each version of IP, where the container
// has a way in.
func targets(ways [2]way, ports []Port) []target {
	var all []target
	for _, p := range ports {
		host, err := netip.ParseAddr(p.IP)
		if err != nil {
			continue
		}
		if to := way4or6(ways, host.Is6()); to.IsValid() {
			all = append(all, target{netip.AddrPortFrom(host, p.Host), p.number(), netip.AddrPortFrom(to, p.Container)})
		}
	}
	return all
}

func way4or6(ways [2]way, v6 bool) netip.Addr {
	switch {
	case v6 && ways[1].endpoint != nil:
		return ways[1].endpoint.IPv6
	case !v6 && ways[0].endpoint != nil:
		return ways[0].endpoint.IPv4
	}
	return netip.Addr{}
}

// A held port of the host: bound, so that nobody else takes it and a clash is seen.
type held struct {
	fd    int
	proxy io.Closer // for what the kernel does not translate; may be nil
}

// hold binds the port that p asks for, or any, and says in p which one.
func hold(p *Port, ways [2]way) (held, error) {
	kind, protocol := unix.SOCK_STREAM, 0
	switch p.Protocol {
	case "":
		p.Protocol = "tcp"
	case "tcp":
	case "udp":
		kind = unix.SOCK_DGRAM
	case "sctp":
		protocol = unix.IPPROTO_SCTP
	default:
		return held{}, fault.Invalid("a port cannot have the protocol %q", p.Protocol).Try("use tcp, udp or sctp")
	}
	if p.Container == 0 {
		return held{}, fault.Invalid("a published port needs the port inside of the container")
	}
	ip, err := netip.ParseAddr(p.IP)
	if err != nil {
		return held{}, fault.Invalid("%q is not an address to publish a port on", p.IP)
	}
	last := max(p.HostEnd, p.Host)
	for port := p.Host; ; port++ {
		p.Host = port
		h, err := take(p, ip, ways, kind, protocol)
		if err == nil {
			p.HostEnd = 0
			return h, nil
		}
		if port == last || !errors.Is(err, unix.EADDRINUSE) {
			return held{}, errPort(*p, err)
		}
	}
}

func take(p *Port, ip netip.Addr, ways [2]way, kind, protocol int) (held, error) {
	if ip.Is6() && protocol == 0 {
		if to := inward(ways); to.IsValid() {
			return openProxy(p, ip, netip.AddrPortFrom(to, p.Container).String())
		}
	}
	return bind(p, ip, kind, protocol)
}

func bind(p *Port, ip netip.Addr, kind, protocol int) (held, error) {
	family := unix.AF_INET
	var addr unix.Sockaddr = &unix.SockaddrInet4{Port: int(p.Host), Addr: as4(ip)}
	if ip.Is6() {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(p.Host), Addr: ip.As16()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return held{fd: -1}, nil // nobody else can have a port of a protocol that the machine does not know
	}
	if err != nil {
		return held{}, err
	}
	if ip.Is6() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		unix.Close(fd)
		return held{}, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return held{}, err
	}
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		p.Host = uint16(bound.Port)
	case *unix.SockaddrInet6:
		p.Host = uint16(bound.Port)
	}
	return held{fd: fd}, nil
}

func as4(ip netip.Addr) [4]byte {
	if ip.Is6() {
		return [4]byte{}
	}
	return ip.As4()
}

func (h held) Close() {
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	if h.proxy != nil {
		h.proxy.Close()
	}
}

// errPort says who has a port, in the user's words.
func errPort(p Port, err error) error {
	where := p.Protocol + " port " + fmt.Sprint(p.Host)
	if errors.Is(err, unix.EADDRINUSE) {
		return fault.Conflict("%s of this machine is in use", where).Try("choose another one, or 0 for any that is free")
	}
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return fault.Invalid("this machine has no address %s", p.IP).Try("publish the port on an address of this machine")
	}
	return fmt.Errorf("publish %s: %w", where, err)
}

// inward is where a proxy leads.
func inward(ways [2]way) netip.Addr {
	if to := way4or6(ways, true); to.IsValid() {
		return to
	}
	return way4or6(ways, false)
}

// openProxy holds a port by carrying what comes by IPv6 and is not translated: for ::1, which
// cannot be, and for containers that have IPv4 only.
func openProxy(p *Port, ip netip.Addr, to string) (held, error) {
	address := net.JoinHostPort(ip.String(), strconv.Itoa(int(p.Host)))
	life, end := context.WithCancel(context.Background())
	if p.Protocol == "udp" {
		c, err := net.ListenPacket("udp6", address)
		if err != nil {
			end()
			return held{}, err
		}
		p.Host = uint16(c.LocalAddr().(*net.UDPAddr).Port)
		x := &packets{conn: c, life: life, end: end, to: to, peers: map[string]net.Conn{}}
		x.running.Go(x.serve)
		return held{fd: -1, proxy: x}, nil
	}
	l, err := net.Listen("tcp6", address)
	if err != nil {
		end()
		return held{}, err
	}
	p.Host = uint16(l.Addr().(*net.TCPAddr).Port)
	x := &proxy{listener: l, life: life, end: end, to: to, conns: map[net.Conn]struct{}{}}
	x.running.Go(x.serve)
	return held{fd: -1, proxy: x}, nil
}

// A proxy carries TCP connections.
type proxy struct {
	listener net.Listener
	to       string
	life     context.Context // of the proxy: a call that nobody answers ends with it
	end      context.CancelFunc
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: closed
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
	out, err := new(net.Dialer).DialContext(x.life, "tcp", x.to)
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

func (x *proxy) Close() error {
	x.listener.Close()
	x.end()
	x.mu.Lock()
	for c := range x.conns {
		c.Close()
	}
	x.conns = nil
	x.mu.Unlock()
	x.running.Wait()
	return nil
}

const (
	silence   = time.Minute // after which a peer of UDP is forgotten
	mostPeers = 1024        // of UDP at once; more are not answered
)

// Packets carries UDP: each peer has a socket of its own, so that answers find back.
type packets struct {
	conn    net.PacketConn
	to      string
	life    context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	peers map[string]net.Conn
}

func (x *packets) serve() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := x.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if out := x.peer(from); out != nil {
			_ = out.SetReadDeadline(time.Now().Add(silence))
			_, _ = out.Write(buf[:n]) // a packet may be lost
		}
	}
}

func (x *packets) peer(from net.Addr) net.Conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	if out := x.peers[from.String()]; out != nil || len(x.peers) >= mostPeers || x.life.Err() != nil {
		return out
	}
	out, err := new(net.Dialer).DialContext(x.life, "udp", x.to)
	if err != nil {
		return nil
	}
	x.peers[from.String()] = out
	x.running.Go(func() { x.back(out, from) })
	return out
}

func (x *packets) back(out net.Conn, to net.Addr) {
	defer func() {
		out.Close()
		x.mu.Lock()
		delete(x.peers, to.String())
		x.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		_ = out.SetReadDeadline(time.Now().Add(silence))
		if _, err := x.conn.WriteTo(buf[:n], to); err != nil {
			return
		}
	}
}

func (x *packets) Close() error {
	x.conn.Close()
	x.end()
	x.mu.Lock()
	for _, out := range x.peers {
		out.Close()
	}
	x.mu.Unlock()
	x.running.Wait()
	return nil
}
