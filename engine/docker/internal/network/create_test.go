package network

import (
	"net/http"
	"net/netip"
	"testing"

	types "github.com/moby/moby/api/types/network"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
)

func TestSpecOf(t *testing.T) {
	yes, no := true, false
	v4 := types.IPAMConfig{Subnet: netip.MustParsePrefix("10.9.0.0/24"), Gateway: netip.MustParseAddr("10.9.0.9")}
	v6 := types.IPAMConfig{Subnet: netip.MustParsePrefix("fd00:9::/64")}
	with := func(name, value string) types.CreateRequest {
		return types.CreateRequest{Name: "n", Options: map[string]string{name: value}}
	}
	cases := []struct {
		sentence string
		asked    types.CreateRequest
		status   int
		want     func(engine.NetworkSpec) bool
	}{
		{"a name is enough", types.CreateRequest{Name: "n"}, 0, func(s engine.NetworkSpec) bool { return s.Name == "n" && !s.NoIPv4 && !s.IPv6 }},
		{"none is not", types.CreateRequest{}, http.StatusBadRequest, nil},
		{"the engine's own cannot be made", types.CreateRequest{Name: "host"}, http.StatusForbidden, nil},
		{"only IPv6", types.CreateRequest{Name: "n", EnableIPv4: &no, EnableIPv6: &yes}, 0, func(s engine.NetworkSpec) bool { return s.NoIPv4 && s.IPv6 }},
		{"pools", types.CreateRequest{Name: "n", EnableIPv6: &yes, IPAM: &types.IPAM{Config: []types.IPAMConfig{v4, v6}}}, 0, func(s engine.NetworkSpec) bool {
			return len(s.Pools) == 2 && s.Pools[0].Gateway == v4.Gateway
		}},
		{"a pool of IPv6 without IPv6", types.CreateRequest{Name: "n", IPAM: &types.IPAM{Config: []types.IPAMConfig{v4, v6}}}, 0, func(s engine.NetworkSpec) bool { return len(s.Pools) == 1 }},
		{"containers do not talk", with(optionTalk, "false"), 0, func(s engine.NetworkSpec) bool { return s.Isolated }},
		{"no masquerading", with(optionMask, "false"), 0, func(s engine.NetworkSpec) bool { return s.Unmasked }},
		{"an MTU", with(optionMTU, "1400"), 0, func(s engine.NetworkSpec) bool { return s.MTU == 1400 }},
		{"no MTU", with(optionMTU, "x"), http.StatusBadRequest, nil},
		{"an address to publish on", with(optionBind, "127.0.0.1"), 0, func(s engine.NetworkSpec) bool { return s.PublishOn == netip.MustParseAddr("127.0.0.1") }},
		{"a bridge's name", with(optionName, "br9"), 0, func(s engine.NetworkSpec) bool { return s.Bridge == "br9" }},
		{"somebody else's option", with("x", "y"), 0, func(s engine.NetworkSpec) bool { return true }},
		{"routing without NAT", with(optionMode4, "routed"), http.StatusNotImplemented, nil},
		{"a second host", types.CreateRequest{Name: "n", Driver: "host"}, http.StatusForbidden, nil},
		{"an overlay", types.CreateRequest{Name: "n", Driver: "overlay"}, http.StatusServiceUnavailable, nil},
		{"macvlan", types.CreateRequest{Name: "n", Driver: "macvlan"}, http.StatusNotImplemented, nil},
		{"an unknown driver", types.CreateRequest{Name: "n", Driver: "x"}, http.StatusNotFound, nil},
		{"only a configuration", types.CreateRequest{Name: "n", ConfigOnly: true}, http.StatusNotImplemented, nil},
	}
	for _, c := range cases {
		spec, err := specOf(c.asked)
		switch {
		case c.status != 0 && (err == nil || api.Status(err) != c.status):
			t.Errorf("%s: %v", c.sentence, err)
		case c.status == 0 && (err != nil || !c.want(spec)):
			t.Errorf("%s: %+v, %v", c.sentence, spec, err)
		}
	}
}
