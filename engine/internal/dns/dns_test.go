package dns_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"sampan.dev/sampan/engine/internal/dns"
)

// upstream answers every question with 9.9.9.9, but for names that end in "gone.".
func upstream(t testing.TB) string {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &miekg.Server{PacketConn: packets, Handler: miekg.HandlerFunc(func(w miekg.ResponseWriter, q *miekg.Msg) {
		a := new(miekg.Msg).SetReply(q)
		if strings.HasSuffix(q.Question[0].Name, "gone.") {
			a.Rcode = miekg.RcodeNameError
		} else {
			rr, _ := miekg.NewRR(q.Question[0].Name + " 60 IN A 9.9.9.9")
			a.Answer = []miekg.RR{rr}
		}
		w.WriteMsg(a)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return packets.LocalAddr().String()
}

func TestAnswers(t *testing.T) {
	r := dns.New([]string{upstream(t)}, slog.New(slog.DiscardHandler))
	r.Add("net", []string{"web", "www"}, netip.MustParseAddr("10.0.0.2"))
	r.Add("net", []string{"web"}, netip.MustParseAddr("10.0.0.3"))
	r.Add("net", []string{"left"}, netip.MustParseAddr("10.0.0.4"))
	r.Drop("net", []string{"left"}, netip.MustParseAddr("10.0.0.4"))
	r.Add("net", []string{"six"}, netip.MustParseAddr("fd00::6"))
	r.Add("other", []string{"secret"}, netip.MustParseAddr("10.1.0.2"))
	cases := []struct {
		sentence string
		name     string
		kind     uint16
		rcode    int
		answers  string
	}{
		{"a name leads to all its containers", "web.", miekg.TypeA, miekg.RcodeSuccess, "10.0.0.2 10.0.0.3"},
		{"an alias leads to its container, in any case", "WwW.", miekg.TypeA, miekg.RcodeSuccess, "10.0.0.2"},
		{"a container has no IPv6 address, but a name", "web.", miekg.TypeAAAA, miekg.RcodeSuccess, ""},
		{"what left is asked outside", "left.", miekg.TypeA, miekg.RcodeSuccess, "9.9.9.9"},
		{"a name with its network", "web.net.", miekg.TypeA, miekg.RcodeSuccess, "10.0.0.2 10.0.0.3"},
		{"an IPv6 address", "six.", miekg.TypeAAAA, miekg.RcodeSuccess, "fd00::6"},
		{"an address leads back to its name", "3.0.0.10.in-addr.arpa.", miekg.TypePTR, miekg.RcodeSuccess, "web.net."},
		{"another network's name is asked outside", "secret.", miekg.TypeA, miekg.RcodeSuccess, "9.9.9.9"},
		{"the world is asked outside", "example.org.", miekg.TypeA, miekg.RcodeSuccess, "9.9.9.9"},
		{"what the world does not know is unknown", "is.gone.", miekg.TypeA, miekg.RcodeNameError, ""},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			q := new(miekg.Msg).SetQuestion(c.name, c.kind)
			q.Id = 2
			answer := r.Answer(dns.Client{Networks: []string{"net"}}, "udp", q)
			var got []string
			for _, rr := range answer.Answer {
				fields := strings.Fields(rr.String())
				got = append(got, fields[len(fields)-1])
			}
			if answer.Rcode != c.rcode || strings.Join(got, " ") != c.answers || answer.Id != q.Id {
				t.Errorf("rcode %d, answers %v", answer.Rcode, got)
			}
		})
	}
}

func TestWithoutAServerOutsideTheAnswerIsAFailure(t *testing.T) {
	closed, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	r := dns.New([]string{closed.LocalAddr().String()}, slog.New(slog.DiscardHandler))
	answer := r.Answer(dns.Client{Networks: []string{"x"}}, "udp", new(miekg.Msg).SetQuestion("example.org.", miekg.TypeA))
	if answer.Rcode != miekg.RcodeServerFailure {
		t.Errorf("the answer is %v", answer)
	}
}

func FuzzServeDNS(f *testing.F) {
	good, _ := new(miekg.Msg).SetQuestion("web.", miekg.TypeA).Pack()
	f.Add(good)
	f.Add([]byte{0, 1, 2})
	r := dns.New([]string{"127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	r.Add("net", []string{"web"}, netip.MustParseAddr("10.0.0.2"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		q := new(miekg.Msg)
		if q.Unpack(raw) != nil {
			return
		}
		answer := r.Answer(dns.Client{Networks: []string{"net"}}, "udp", q)
		if answer == nil {
			t.Fatal("no answer")
		}
		if _, err := answer.Pack(); err != nil && len(q.Question) == 1 && q.Question[0].Name == "web." {
			t.Error(fmt.Errorf("an answer that cannot be sent: %w", err))
		}
	})
}
