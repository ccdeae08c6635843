// Package dns answers the questions for names that containers ask (RFC 1035).
//
// Names and aliases of containers are known within their network; all other questions are
// forwarded to the host's servers. Each container asks 127.0.0.11, which is a socket in its
// own network namespace, so that the asker needs no address to be known by.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Address is where containers ask.
const Address = "127.0.0.11"

// ttl is short, for a container may be replaced by another one at any time.
const ttl = 5

// A Resolver is safe for concurrent use.
type Resolver struct {
	upstream []string
	log      *slog.Logger

	mu       sync.RWMutex
	names    map[name][]netip.Addr
	reversed map[string]name // by the question for it

	host hostFile
}

type name struct{ network, label string }

// New forwards to the servers upstream, or to the host's when there are none.
func New(upstream []string, log *slog.Logger) *Resolver {
	return &Resolver{upstream: upstream, log: log, names: map[name][]netip.Addr{}, reversed: map[string]name{}, host: hostFile{path: "/etc/resolv.conf"}}
}

// Close forgets everything. Servers are closed by themselves.
func (r *Resolver) Close() error { return nil }

// Add makes labels lead to ip, beside others that they lead to, and ip back to the first.
func (r *Resolver) Add(network string, labels []string, ip netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if question, err := dns.ReverseAddr(ip.String()); err == nil && len(labels) > 0 {
		r.reversed[question] = name{network, labels[0]}
	}
	for _, label := range labels {
		key := name{network, strings.ToLower(label)}
		if label != "" && !slices.Contains(r.names[key], ip) {
			r.names[key] = append(slices.Clone(r.names[key]), ip)
		}
	}
}

// Drop takes that back.
func (r *Resolver) Drop(network string, labels []string, ip netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if question, err := dns.ReverseAddr(ip.String()); err == nil {
		delete(r.reversed, question)
	}
	for _, label := range labels {
		key := name{network, strings.ToLower(label)}
		left := slices.DeleteFunc(slices.Clone(r.names[key]), func(a netip.Addr) bool { return a == ip })
		if len(left) == 0 {
			delete(r.names, key)
			continue
		}
		r.names[key] = left
	}
}

func (r *Resolver) find(network, label string) []netip.Addr {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.names[name{network, strings.ToLower(label)}]
}

// A Client is who asks through a Server.
type Client struct {
	Networks []string
	Upstream []string // servers instead of the Resolver's
	Alone    bool     // nothing is asked of servers
}

// A Server answers one container.
type Server struct {
	resolver *Resolver
	client   atomic.Pointer[Client]
	udp, tcp *dns.Server
	running  sync.WaitGroup
}

// Serve listens on Address, in the network namespace in which inside runs its function.
func (r *Resolver) Serve(c Client, inside func(func() error) error) (*Server, error) {
	s := &Server{resolver: r}
	s.Set(c)
	var packets net.PacketConn
	var stream net.Listener
	err := inside(func() (err error) {
		if packets, err = net.ListenPacket("udp4", Address+":53"); err != nil {
			return err
		}
		stream, err = net.Listen("tcp4", Address+":53")
		if err != nil {
			packets.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", Address, err)
	}
	s.udp = &dns.Server{PacketConn: packets, Handler: s}
	s.tcp = &dns.Server{Listener: stream, Handler: s}
	for _, server := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		begun := sync.OnceFunc(func() { close(started) })
		server.NotifyStartedFunc = begun
		s.running.Go(func() {
			defer begun()
			if err := server.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
				r.log.Error("names do not resolve in a container any more", "networks", c.Networks, "err", err)
			}
		})
		<-started // otherwise Close could come before the start and be lost
	}
	return s, nil
}

// Set says anew who asks: its networks have changed.
func (s *Server) Set(c Client) { s.client.Store(&c) }

// Close ends the server. An answer that is under way is not waited for: nobody is left to read it.
func (s *Server) Close() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.udp.ShutdownContext(ended)
	_ = s.tcp.ShutdownContext(ended)
	s.running.Wait()
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	answer := s.resolver.Answer(*s.client.Load(), w.RemoteAddr().Network(), q)
	answer.Compress = true
	_ = w.WriteMsg(answer) // the asker is gone: nobody to tell
}

// Answer is what c is told when it asks q by "udp" or "tcp".
func (r *Resolver) Answer(c Client, protocol string, q *dns.Msg) *dns.Msg {
	if answer := r.local(c, q); answer != nil {
		return answer
	}
	if c.Alone {
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	}
	return r.forward(c, protocol, q)
}

// local answers for the names of containers, and nil for all others.
func (r *Resolver) local(c Client, q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	}
	question := q.Question[0]
	answer := new(dns.Msg).SetReply(q)
	answer.RecursionAvailable = true
	if question.Qtype == dns.TypePTR {
		named := r.reverse(c, question.Name)
		if named == "" {
			return nil
		}
		answer.Answer = []dns.RR{&dns.PTR{
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: dns.Fqdn(named),
		}}
		return answer
	}
	var ips []netip.Addr
	for _, network := range c.Networks {
		label := strings.TrimSuffix(question.Name, ".")
		if ips = r.find(network, label); len(ips) == 0 {
			ips = r.find(network, strings.TrimSuffix(label, "."+network)) // NAME.NETWORK
		}
		if len(ips) > 0 {
			break
		}
	}
	if len(ips) == 0 {
		return nil
	}
	// Several containers of one name share the work: each answer begins with another one.
	first := int(q.Id) % len(ips)
	for i := range ips {
		// A name that is there without such a record gets an empty answer.
		if rr := record(question, ips[(first+i)%len(ips)]); rr != nil {
			answer.Answer = append(answer.Answer, rr)
		}
	}
	return answer
}

func record(q dns.Question, ip netip.Addr) dns.RR {
	header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl}
	switch {
	case ip.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: ip.AsSlice()}
	case ip.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
		header.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: header, AAAA: ip.AsSlice()}
	}
	return nil
}

// reverse is the name of the container that a question of type PTR is about: NAME.NETWORK.
func (r *Resolver) reverse(c Client, question string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	known, ok := r.reversed[strings.ToLower(question)]
	if !ok || !slices.Contains(c.Networks, known.network) {
		return ""
	}
	return known.label + "." + known.network
}

// forward asks the servers in their order. The asker's protocol is kept, so that a truncated
// answer makes it ask again by TCP.
func (r *Resolver) forward(c Client, protocol string, q *dns.Msg) *dns.Msg {
	client := &dns.Client{Net: protocol, Timeout: 4 * time.Second, UDPSize: dns.DefaultMsgSize}
	servers := c.Upstream
	if len(servers) == 0 {
		servers = r.upstream
	}
	if len(servers) == 0 {
		servers = r.host.servers()
	}
	for _, server := range servers {
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "53")
		}
		answer, _, err := client.Exchange(q, server)
		if err == nil {
			return answer
		}
		r.log.Debug("a name server does not answer", "server", server, "err", err)
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

// A hostFile is the machine's resolv.conf, read again when it changed.
type hostFile struct {
	path string

	mu     sync.Mutex
	at     time.Time
	config dns.ClientConfig
}

func (h *hostFile) servers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := os.Stat(h.path)
	if err != nil {
		return h.config.Servers
	}
	if !info.ModTime().Equal(h.at) {
		if config, err := dns.ClientConfigFromFile(h.path); err == nil {
			h.config, h.at = *config, info.ModTime()
		}
	}
	return h.config.Servers
}

// Search is what the machine's resolv.conf appends to short names.
func (r *Resolver) Search() []string {
	r.host.servers()
	r.host.mu.Lock()
	defer r.host.mu.Unlock()
	return r.host.config.Search
}
