package container

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/internal/fault"
)

// ports are those that are bound to the host's, and with -P all that the container says it has.
func ports(_ context.Context, q *request, out *engine.Spec) error {
	h := q.HostConfig
	for _, port := range slices.SortedFunc(maps.Keys(h.PortBindings), comparePorts) {
		if !port.IsValid() || port.Num() == 0 {
			return fault.Invalid("invalid port specification: %q", port.String())
		}
		for _, b := range h.PortBindings[port] {
			p, err := portOf(port, b)
			if err != nil {
				return err
			}
			out.Ports = append(out.Ports, p)
		}
		if q.Config.ExposedPorts == nil {
			q.Config.ExposedPorts = network.PortSet{}
		}
		q.Config.ExposedPorts[port] = struct{}{}
	}
	if h.NetworkMode.IsHost() || h.NetworkMode.IsNone() {
		out.Ports = nil // Docker says nothing, and leaves them out
		return nil
	}
	if h.PublishAllPorts {
		for _, port := range slices.SortedFunc(maps.Keys(q.Config.ExposedPorts), comparePorts) {
			if _, bound := h.PortBindings[port]; !bound {
				out.Ports = append(out.Ports, engine.Port{Container: port.Num(), Protocol: string(port.Proto())})
			}
		}
	}
	return nil
}

func portOf(port network.Port, b network.PortBinding) (engine.Port, error) {
	p := engine.Port{Container: port.Num(), Protocol: string(port.Proto())}
	if b.HostIP.IsValid() {
		p.IP = b.HostIP.String()
	}
	switch port.Proto() {
	case network.TCP, network.UDP, network.SCTP:
	default:
		return p, fault.Invalid("invalid protocol %q of port %d", port.Proto(), port.Num())
	}
	if b.HostPort == "" {
		return p, nil
	}
	r, err := network.ParsePortRange(b.HostPort)
	if err != nil || strings.Contains(b.HostPort, "/") {
		return p, fault.Invalid("invalid port specification: %q", b.HostPort)
	}
	p.Host = r.Start()
	if r.End() != r.Start() {
		p.HostEnd = r.End()
	}
	return p, nil
}

func comparePorts(a, b network.Port) int {
	if a.Num() != b.Num() {
		return int(a.Num()) - int(b.Num())
	}
	return strings.Compare(string(a.Proto()), string(b.Proto()))
}

// portOfPlace is a port of a running container.
func portOfPlace(p engine.Port) network.Port {
	proto := network.IPProtocol(p.Protocol)
	if proto == "" {
		proto = network.TCP
	}
	port, _ := network.PortFrom(p.Container, proto)
	return port
}

// portMap is what inspect tells: the ports of a running container, nil those that are not bound.
func portMap(c engine.Container, q request) network.PortMap {
	all := network.PortMap{}
	if !running(c) || !q.HostConfig.NetworkMode.IsBridge() && !q.HostConfig.NetworkMode.IsUserDefined() {
		return all
	}
	for port := range q.Config.ExposedPorts {
		all[port] = nil
	}
	for _, p := range c.Place.Ports {
		port := portOfPlace(p)
		all[port] = append(all[port], network.PortBinding{HostIP: addr(p.IP), HostPort: hostPort(p)})
	}
	return all
}

// portList is what the list tells.
func portList(c engine.Container, q request) []container.PortSummary {
	list := []container.PortSummary{}
	for port, bindings := range portMap(c, q) {
		if len(bindings) == 0 {
			list = append(list, container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
	}
	if running(c) {
		for _, p := range c.Place.Ports {
			port := portOfPlace(p)
			list = append(list, container.PortSummary{
				IP: addr(p.IP), PrivatePort: port.Num(), PublicPort: p.Host, Type: string(port.Proto()),
			})
		}
	}
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		if c := strings.Compare(a.Type, b.Type); c != 0 {
			return c
		}
		return a.IP.Compare(b.IP)
	})
	return list
}
