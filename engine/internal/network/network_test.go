package network_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/network"
	"sampan.dev/sampan/internal/fault"
)

func open(t testing.TB, dir string) *network.Manager {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("networks are made by root")
	}
	m, err := network.Open(network.Config{Dir: filepath.Join(dir, "network"), Run: filepath.Join(dir, "netns"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// empty takes everything away and looks whether anything stays.
func empty(t testing.TB, m *network.Manager) {
	t.Helper()
	bridges := []string{}
	for _, n := range m.Networks() {
		bridges = append(bridges, n.Bridge)
	}
	if err := m.Purge(); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, b := range bridges {
		if _, err := netlink.LinkByName(b); err == nil {
			t.Errorf("the bridge %s stays", b)
		}
		if c, err := nftables.New(); err == nil {
			tables, _ := c.ListTables()
			for _, table := range tables {
				if table.Name == b {
					t.Errorf("the table %s stays", table.Name)
				}
			}
		}
	}
}

func place(t testing.TB, m *network.Manager, s network.Sandbox) network.Place {
	t.Helper()
	p, err := m.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// published is a container of the default network whose port 80 is one of the host's.
func published(id string, port uint16) network.Sandbox {
	return network.Sandbox{
		ID: id, Endpoints: []network.Options{{Names: []string{id}}}, Ports: []network.Port{{Host: port, Container: 80}},
	}
}

// in runs fn in a namespace, on a thread that ends with it.
func in(t testing.TB, path string, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			f.Close()
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// hello answers every connection in a namespace with a word and the caller's address.
func hello(t testing.TB, e network.Place, port int) {
	in(t, e.NetNS, func() {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintf(c, "hello %s", host)
				c.Close()
			}
		}()
	})
}

func fetch(addr string) (string, error) {
	network := "tcp4"
	if strings.HasPrefix(addr, "[") {
		network = "tcp6"
	}
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	raw, err := io.ReadAll(c)
	return string(raw), err
}

// impersonate has a container tell everybody that it is ip, for longer than the kernel
// holds on to what it knows (neigh/default/locktime, a second).
func impersonate(t *testing.T, netns string, ip netip.Addr) {
	in(t, netns, func() {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		self := eth.Attrs().HardwareAddr
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(s)
		const arp = 0x0608 // ETH_P_ARP in network byte order
		everybody := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: eth.Attrs().Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
		reply := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, self...)
		reply = append(reply, ip.AsSlice()...)
		reply = append(reply, self...)
		reply = append(reply, ip.AsSlice()...)
		for range 30 {
			if err := unix.Sendto(s, reply, 0, everybody); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

func TestContainersReachWhatTheyMay(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	ctx := t.Context()
	if _, err := m.Create(ctx, network.Spec{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(ctx, network.Spec{Name: "apart", Isolated: true}); err != nil {
		t.Fatal(err)
	}
	join := func(id, net string, ports ...network.Port) network.Place {
		return place(t, m, network.Sandbox{
			ID: id, Endpoints: []network.Options{{Network: net, Names: []string{id, "Alias-of-" + id}}}, Ports: ports,
		})
	}
	web := join("web", "", network.Port{Container: 80}, network.Port{IP: "127.0.0.1", Container: 80}, network.Port{Container: 53, Protocol: "udp"})
	client := join("client", "")
	stranger := join("stranger", "other")
	one, two, three := join("one", "apart"), join("two", "apart"), join("three", "apart")
	hello(t, web, 80)
	hello(t, stranger, 80)
	hello(t, one, 80)
	around := netlink.Route{Dst: &net.IPNet{IP: one.IP().AsSlice(), Mask: net.CIDRMask(32, 32)}, Gw: one.Endpoints[0].Gateway4.AsSlice()}
	in(t, three.NetNS, func() { // like one who makes his own packets
		if err := netlink.RouteAdd(&around); err != nil {
			t.Error(err)
		}
	})
	if got, err := fetch(one.IP().String() + ":80"); err != nil {
		t.Fatal(got, err)
	}
	impersonate(t, two.NetNS, one.IP()) // whom the host knows
	everywhere := fmt.Sprint(web.Ports[0].Host)
	gateway := web.Endpoints[0].Gateway4.String()
	var host string
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && p.Addr() != web.Endpoints[0].Gateway4 {
				host = p.Addr().String()
			}
		}
	}
	lookup := func(name string) string {
		q := new(dns.Msg).SetQuestion(name+".", dns.TypeA)
		answer, err := dns.Exchange(q, "127.0.0.11:53")
		if err != nil || len(answer.Answer) != 1 {
			return ""
		}
		return answer.Answer[0].(*dns.A).A.String()
	}
	cases := []struct {
		sentence, from, addr, want string
	}{
		{"the host reaches a container", "", web.IP().String() + ":80", "hello " + gateway},
		{"a published port answers on 127.0.0.1", "", "127.0.0.1:" + everywhere, "hello " + gateway},
		{"a published port answers on ::1", "", "[::1]:" + everywhere, "hello " + gateway},
		{"a published port answers on the host's address", "", host + ":" + everywhere, "hello"},
		{"a port published on 127.0.0.1 answers there", "", fmt.Sprintf("127.0.0.1:%d", web.Ports[2].Host), "hello"},
		{"a port published on 127.0.0.1 answers nowhere else", client.NetNS, fmt.Sprintf("%s:%d", gateway, web.Ports[2].Host), ""},
		{"a container reaches another of its network", client.NetNS, web.IP().String() + ":80", "hello " + client.IP().String()},
		{"a container reaches a published port", client.NetNS, gateway + ":" + everywhere, "hello"},
		{"a container reaches its own published port", web.NetNS, gateway + ":" + everywhere, "hello"},
		{"a container reaches no container of another network", stranger.NetNS, web.IP().String() + ":80", ""},
		{"a container reaches a published port of another network", stranger.NetNS, gateway + ":" + everywhere, "hello"},
		{"the host reaches an isolated container that another claims to be", "", one.IP().String() + ":80", "hello"},
		{"an isolated container reaches no other", two.NetNS, one.IP().String() + ":80", ""},
		{"nor through the host", three.NetNS, one.IP().String() + ":80", ""},
		{"a container finds another by name", client.NetNS, "web:80", "hello"},
		{"a container finds another by alias, in any case", client.NetNS, "ALIAS-of-web:80", "hello"},
		{"a container finds no name of another network", client.NetNS, "stranger:80", ""},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			if strings.HasPrefix(c.addr, ":") {
				t.Skip("this machine has no other address")
			}
			var got string
			var err error
			run := func() {
				name, port, _ := strings.Cut(c.addr, ":")
				if c.addr[0] != '[' && net.ParseIP(name) == nil {
					if name = lookup(name); name == "" {
						return
					}
					got, err = fetch(name + ":" + port)
					return
				}
				got, err = fetch(c.addr)
			}
			if c.from == "" {
				run()
			} else {
				in(t, c.from, run)
			}
			if (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestAPortHasOneOwner(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	a := place(t, m, published("a", 0))
	_, err := m.Open(t.Context(), published("b", a.Ports[0].Host))
	if !fault.Is(err, fault.KindConflict) {
		t.Errorf("the error is %v", err)
	}
	if _, ok := m.Place("b"); ok {
		t.Error("what failed left an endpoint")
	}
	if err := m.Leave("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open(t.Context(), published("c", a.Ports[0].Host)); err != nil {
		t.Errorf("a port that was left is not free: %v", err)
	}
}

func TestANewManagerGoesOn(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	e := place(t, m, published("a", 0))
	place(t, m, network.Sandbox{ID: "gone", Endpoints: []network.Options{{}}})
	hello(t, e, 80)
	address := fmt.Sprintf("127.0.0.1:%d", e.Ports[0].Host)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(address); got == "" {
		t.Errorf("while no manager is open: %v", err)
	}
	m = open(t, dir)
	defer empty(t, m)
	if err := m.Keep([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(address); got == "" {
		t.Errorf("with a new manager: %v", err)
	}
	if _, ok := m.Place("gone"); ok {
		t.Error("a container that is gone has an endpoint")
	}
}

func TestSubnetsDoNotOverlap(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	cases := []struct {
		sentence, subnet string
		kind             fault.Kind
		ok               bool
	}{
		{"one of its own", "10.213.0.0/24", 0, true},
		{"the same again", "10.213.0.0/24", fault.KindConflict, false},
		{"a part of it", "10.213.0.128/25", fault.KindConflict, false},
		{"the loopback", "127.0.0.0/8", fault.KindConflict, false},
		{"too small", "10.214.0.0/30", fault.KindInvalid, false},
		{"of version six without asking for it", "fd00:1::/64", fault.KindInvalid, false},
	}
	for i, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			_, err := m.Create(t.Context(), network.Spec{Name: fmt.Sprint("n", i), Pools: []network.Pool{{Subnet: netip.MustParsePrefix(c.subnet)}}})
			if c.ok != (err == nil) || !c.ok && !fault.Is(err, c.kind) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func BenchmarkEndpoint(b *testing.B) {
	m := open(b, b.TempDir())
	defer empty(b, m)
	i := 0
	for b.Loop() {
		i++
		id := fmt.Sprint("c", i)
		place(b, m, published(id, 0))
		if err := m.Leave(id); err != nil {
			b.Fatal(err)
		}
	}
}

// The kernel used to drop what was sent in the first milliseconds: a third of these waited a
// second for their second try, which is when fetch gives up.
func TestTheFirstPacketArrives(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	for i := range 20 {
		e := place(t, m, published(fmt.Sprint("c", i), 0))
		hello(t, e, 80)
		if _, err := fetch(fmt.Sprintf("127.0.0.1:%d", e.Ports[0].Host)); err != nil {
			t.Errorf("container %d: %v", i, err)
		}
	}
}

// Networks of IPv6 do what those of IPv4 do.
func TestIPv6(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	n, err := m.Create(t.Context(), network.Spec{Name: "six", IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(t.Context(), network.Spec{Name: "only", IPv6: true, NoIPv4: true}); err != nil {
		t.Fatal(err)
	}
	pool, _ := n.Pool(true)
	web := place(t, m, network.Sandbox{ID: "web", Endpoints: []network.Options{{Network: "six", Names: []string{"web"}}}, Ports: []network.Port{{Container: 80}, {Container: 80, IP: "::1"}}})
	client := place(t, m, network.Sandbox{ID: "client", Endpoints: []network.Options{{Network: "six"}}})
	stranger := place(t, m, network.Sandbox{ID: "stranger", Endpoints: []network.Options{{Network: "only"}}})
	hello(t, web, 80)
	six := "[" + web.Endpoints[0].IPv6.Addr().String() + "]:80"
	port := fmt.Sprint(web.Ports[1].Host)
	for _, c := range []struct{ sentence, from, addr, want string }{
		{"the host reaches a container", "", six, "hello " + pool.Gateway.String()},
		{"a container reaches another", client.NetNS, six, "hello " + client.Endpoints[0].IPv6.Addr().String()},
		{"not one of another network", stranger.NetNS, six, ""},
		{"a published port answers on the gateway", "", "[" + pool.Gateway.String() + "]:" + port, "hello"},
		{"and on it for another network", stranger.NetNS, "[" + pool.Gateway.String() + "]:" + port, "hello"},
		{"and on ::1", "", "[::1]:" + port, "hello"},
		{"and on 127.0.0.1", "", "127.0.0.1:" + fmt.Sprint(web.Ports[0].Host), "hello"},
		{"one published on ::1 answers there", "", "[::1]:" + fmt.Sprint(web.Ports[2].Host), "hello"},
		{"and nowhere else", "", "[" + pool.Gateway.String() + "]:" + fmt.Sprint(web.Ports[2].Host), ""},
	} {
		var got string
		run := func() { got, _ = fetch(c.addr) }
		if c.from == "" {
			run()
		} else {
			in(t, c.from, run)
		}
		if (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q", c.sentence, got)
		}
	}
	if _, ok := stranger.Endpoints[0].IPv4, stranger.IP().Is6(); !ok {
		t.Errorf("the stranger has %s", stranger.IP())
	}
}

// A container comes into a network and leaves it while it runs.
func TestConnectAndDisconnect(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	ctx := t.Context()
	for _, spec := range []network.Spec{
		{Name: "front"}, {Name: "back", Internal: true},
		{Name: "chosen", Pools: []network.Pool{{Subnet: netip.MustParsePrefix("10.214.0.0/24"), Range: netip.MustParsePrefix("10.214.0.128/25"), Gateway: netip.MustParseAddr("10.214.0.254")}}},
	} {
		if _, err := m.Create(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
	a := place(t, m, network.Sandbox{ID: "a", Endpoints: []network.Options{{Network: "back", Names: []string{"a"}}}, Ports: []network.Port{{Container: 80}}})
	b := place(t, m, network.Sandbox{ID: "b", Endpoints: []network.Options{{Network: "front", Names: []string{"b"}}}})
	hello(t, a, 80)
	hello(t, b, 80)
	reach := func(p network.Place, addr netip.Addr) bool {
		got := ""
		in(t, p.NetNS, func() { got, _ = fetch(addr.String() + ":80") })
		return got != ""
	}
	port := fmt.Sprintf("127.0.0.1:%d", a.Ports[0].Host)
	if got, _ := fetch(port); got != "" {
		t.Error("a container without a way out answers on a published port")
	}
	if reach(a, b.IP()) {
		t.Error("it reaches another network before it is in it")
	}
	e, err := m.Connect(ctx, "a", network.Options{Network: "front", Names: []string{"a", "alias"}})
	if err != nil || e.Interface != "eth1" {
		t.Fatalf("connect: %+v, %v", e, err)
	}
	if !reach(a, b.IP()) || !reach(b, e.IPv4.Addr()) {
		t.Error("they do not reach each other in their common network")
	}
	if got, _ := fetch(port); got == "" {
		t.Error("its published port does not answer, though it has a way out now")
	}
	if _, err := m.Connect(ctx, "a", network.Options{Network: "front"}); !fault.Is(err, fault.KindConflict) {
		t.Errorf("twice: %v", err)
	}
	if _, err := m.Connect(ctx, "a", network.Options{Network: "chosen", IPv4: netip.MustParseAddr("10.99.0.1")}); !fault.Is(err, fault.KindInvalid) {
		t.Errorf("an address of elsewhere: %v", err)
	}
	chosen, err := m.Connect(ctx, "a", network.Options{Network: "chosen", IPv4: netip.MustParseAddr("10.214.0.7"), MAC: "02:00:00:00:00:07"})
	if err != nil || chosen.IPv4.String() != "10.214.0.7/24" || chosen.MAC != "02:00:00:00:00:07" {
		t.Errorf("an address that was asked for: %+v, %v", chosen, err)
	}
	if other, err := m.Connect(ctx, "b", network.Options{Network: "chosen"}); err != nil || !netip.MustParsePrefix("10.214.0.128/25").Contains(other.IPv4.Addr()) {
		t.Errorf("an address of the range: %+v, %v", other, err)
	}
	if err := m.Disconnect(ctx, "a", "front"); err != nil {
		t.Fatal(err)
	}
	if reach(a, b.IP()) || reach(b, e.IPv4.Addr()) {
		t.Error("it is reached in a network that it has left")
	}
	if err := m.Disconnect(ctx, "a", "front"); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("twice out: %v", err)
	}
	if p, _ := m.Place("a"); len(p.Endpoints) != 2 {
		t.Errorf("it is in %+v", p.Endpoints)
	}
}

// What another program throws away comes back.
func TestRulesComeBack(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- m.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	p := place(t, m, published("a", 0))
	hello(t, p, 80)
	n, err := m.Network("")
	if err != nil {
		t.Fatal(err)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.Bridge})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", p.Ports[0].Host)
	for range 100 {
		if got, _ := fetch(address); got != "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the published port does not come back")
}

// An interface of the machine is none of ours, whatever a network calls its bridge.
func TestAnInterfaceOfTheMachineStays(t *testing.T) {
	m := open(t, t.TempDir())
	defer empty(t, m)
	theirs := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "theirs0"}}
	if err := netlink.LinkAdd(theirs); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(theirs)
	if _, err := m.Create(t.Context(), network.Spec{Name: "taken", Bridge: "theirs0"}); !fault.Is(err, fault.KindConflict) {
		t.Errorf("a network on it: %v", err)
	}
	if _, err := netlink.LinkByName("theirs0"); err != nil {
		t.Error("it is gone")
	}
	if _, err := m.Create(t.Context(), network.Spec{Name: "huge", MTU: 99_999_999}); !fault.Is(err, fault.KindInvalid) {
		t.Errorf("an impossible size: %v", err)
	}
}
