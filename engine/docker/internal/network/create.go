package network

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	types "github.com/moby/moby/api/types/network"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/internal/fault"
)

// Options of Docker's bridge driver.
const (
	optionName    = "com.docker.network.bridge.name"
	optionTalk    = "com.docker.network.bridge.enable_icc"
	optionMask    = "com.docker.network.bridge.enable_ip_masquerade"
	optionBind    = "com.docker.network.bridge.host_binding_ipv4"
	optionDefault = "com.docker.network.bridge.default_bridge"
	optionMode4   = "com.docker.network.bridge.gateway_mode_ipv4"
	optionMode6   = "com.docker.network.bridge.gateway_mode_ipv6"
	optionPrefix  = "com.docker.network.container_iface_prefix"
	optionMTU     = "com.docker.network.driver.mtu"
)

func (s *Service) create(w http.ResponseWriter, r *http.Request) error {
	raw, err := api.Body(r)
	if err != nil {
		return err
	}
	var asked types.CreateRequest
	if err := json.Unmarshal(raw, &asked); err != nil {
		return fault.Invalid("invalid JSON: %w", err)
	}
	if !api.AtLeast(r, "1.48") {
		asked.EnableIPv4 = nil
	}
	spec, err := specOf(asked)
	if err != nil {
		return err
	}
	spec.Request = raw
	n, err := s.engine.CreateNetwork(r.Context(), spec)
	if fault.Is(err, fault.KindConflict) && s.known(r, asked.Name) {
		return fault.Conflict("network with name %s already exists", asked.Name)
	}
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusCreated, types.CreateResponse{ID: n.ID})
}

func (s *Service) known(r *http.Request, name string) bool {
	n, err := s.find(r.Context(), name)
	return err == nil && n.Name == name
}

// specOf is what a client asks for, in the words of the engine. What it does not have is
// refused, not left out.
func specOf(asked types.CreateRequest) (engine.NetworkSpec, error) {
	spec := engine.NetworkSpec{
		Name: asked.Name, Internal: asked.Internal, Labels: asked.Labels,
		NoIPv4: asked.EnableIPv4 != nil && !*asked.EnableIPv4, IPv6: asked.EnableIPv6 != nil && *asked.EnableIPv6,
	}
	if strings.TrimSpace(asked.Name) == "" {
		return spec, fault.Invalid("invalid network name: name is empty").On("Name")
	}
	if predefined(asked.Name) || asked.Name == "default" {
		return spec, fault.Forbidden("operation is not permitted on predefined %s network", asked.Name)
	}
	if err := supported(asked); err != nil {
		return spec, err
	}
	if asked.IPAM != nil {
		for _, c := range asked.IPAM.Config {
			if c.Subnet.IsValid() && c.Subnet.Addr().Is6() && !spec.IPv6 {
				continue // of no use without IPv6
			}
			spec.Pools = append(spec.Pools, engine.Pool{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Taken: c.AuxAddress})
		}
	}
	return spec, options(&spec, asked.Options)
}

func supported(asked types.CreateRequest) error {
	switch asked.Driver {
	case "", "default", bridge:
	case "host", "null":
		return fault.Forbidden("only one instance of %q network is allowed", asked.Driver)
	case "overlay":
		return fault.Unavailable("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	case "macvlan", "ipvlan":
		return api.NotImplemented("networks of the driver %s are not supported by this engine: use bridge", asked.Driver)
	default:
		return fault.NotFound("plugin %q not found", asked.Driver)
	}
	switch {
	case asked.Scope != "" && asked.Scope != "local":
		return fault.Invalid("a bridge is local: the scope %s is not supported", asked.Scope)
	case asked.Ingress:
		return fault.Invalid("an ingress network needs a swarm, which this engine is not part of")
	case asked.ConfigOnly, asked.ConfigFrom != nil && asked.ConfigFrom.Network != "":
		return api.NotImplemented("networks that only carry a configuration are not supported by this engine")
	case asked.IPAM != nil && asked.IPAM.Driver != "" && asked.IPAM.Driver != "default":
		return fault.NotFound("plugin %q not found", asked.IPAM.Driver)
	}
	return nil
}

// options reads those of the bridge driver. Others are labels for somebody else.
func options(spec *engine.NetworkSpec, all map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := option(spec, name, all[name]); err != nil {
			return fault.Invalid("the option %s=%s makes no sense: %w", name, all[name], err)
		}
	}
	for _, name := range []string{optionMode4, optionMode6} {
		if mode := all[name]; mode != "" && mode != "nat" {
			return api.NotImplemented("the gateway mode %s is not supported by this engine: use nat", mode)
		}
	}
	if all[optionPrefix] != "" {
		return api.NotImplemented("interfaces are named eth0, eth1 and so on: %s is not supported by this engine", optionPrefix)
	}
	return nil
}

func option(spec *engine.NetworkSpec, name, value string) (err error) {
	switch name {
	case optionName:
		spec.Bridge = value
	case optionTalk:
		spec.Isolated, err = not(value)
	case optionMask:
		spec.Unmasked, err = not(value)
	case optionBind:
		spec.PublishOn, err = netip.ParseAddr(value)
	case optionMTU:
		spec.MTU, err = strconv.Atoi(value)
	}
	return err
}

func not(value string) (bool, error) {
	yes, err := strconv.ParseBool(value)
	return !yes, err
}

// describe is a bridge as the API shows it. What the client asked for is said as it was.
func describe(n engine.Network) types.Network {
	var asked types.CreateRequest
	if len(n.Request) > 0 {
		// It was read when the network was made; without it, the network is still one.
		_ = json.Unmarshal(n.Request, &asked)
	}
	out := types.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: bridge, EnableIPv4: !n.NoIPv4, EnableIPv6: n.IPv6,
		Internal: n.Internal, Attachable: asked.Attachable, Options: asked.Options, Labels: n.Labels,
		IPAM: types.IPAM{Driver: "default", Config: []types.IPAMConfig{}},
	}
	if asked.IPAM != nil {
		out.IPAM.Options = asked.IPAM.Options
	}
	for _, p := range n.Pools {
		out.IPAM.Config = append(out.IPAM.Config, types.IPAMConfig{Subnet: p.Subnet, IPRange: p.Range, Gateway: p.Gateway, AuxAddress: p.Taken})
	}
	if len(n.Request) == 0 {
		out.Options = told(n)
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

// told are the options of a network that no client of this API has made.
func told(n engine.Network) map[string]string {
	all := map[string]string{
		optionName: n.Bridge,
		optionTalk: strconv.FormatBool(!n.Isolated),
		optionMask: strconv.FormatBool(!n.Unmasked),
		optionBind: "0.0.0.0",
	}
	if n.PublishOn.IsValid() {
		all[optionBind] = n.PublishOn.String()
	}
	if n.MTU > 0 {
		all[optionMTU] = strconv.Itoa(n.MTU)
	}
	if n.Name == engine.DefaultNetwork {
		all[optionDefault] = "true"
	}
	return all
}
