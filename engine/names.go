package engine

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"sampan.dev/sampan/engine/internal/dns"
	"sampan.dev/sampan/engine/internal/network"
)

// hostname is the machine's own where the container shares its network or its names.
func hostname(r record) string {
	if r.Spec.Network != HostNetwork && r.Spec.UTS != hostMode {
		return r.Spec.Hostname
	}
	name, err := os.Hostname()
	if err != nil {
		return r.Spec.Hostname
	}
	return name
}

// files writes /etc/hosts, /etc/hostname and /etc/resolv.conf, and mounts them. Who shares a
// network shares them, too.
func (e *Engine) files(r record, place network.Place) ([]specs.Mount, error) {
	dir := e.home(r.ID)
	if of, shared := strings.CutPrefix(r.Spec.Network, containerPrefix); shared {
		other, err := e.find(of)
		if err != nil {
			return nil, err
		}
		dir = e.home(other.ID)
	} else if err := e.writeFiles(r, place); err != nil {
		return nil, fmt.Errorf("write the files of container %s: %w", r.Name, err)
	}
	var all []specs.Mount
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		options := []string{"rbind", "rprivate"}
		if r.Spec.ReadOnly {
			options = append(options, "ro")
		}
		all = append(all, bind(filepath.Join(dir, file), "/etc/"+file, options...))
	}
	return all, nil
}

func (e *Engine) writeFiles(r record, place network.Place) error {
	resolv, err := e.resolvConf(r, place)
	if err != nil {
		return err
	}
	for file, text := range map[string]string{"hosts": e.hostsFile(r, place), "hostname": hostname(r) + "\n", "resolv.conf": resolv} {
		if err := os.WriteFile(filepath.Join(e.home(r.ID), file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) hostsFile(r record, place network.Place) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, h := range r.Spec.Hosts {
		name, ip, _ := strings.Cut(h, ":")
		if ip == hostGateway {
			ip = "127.0.0.1"
			for _, p := range place.Endpoints {
				if p.Gateway4.IsValid() {
					ip = p.Gateway4.String()
					break
				}
			}
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	name := hostname(r)
	if r.Spec.Domainname != "" {
		name = name + "." + r.Spec.Domainname + " " + name
	}
	for _, p := range place.Endpoints {
		for _, ip := range []fmt.Stringer{p.IPv4.Addr(), p.IPv6.Addr()} {
			if text := ip.String(); text != "invalid IP" {
				fmt.Fprintf(&b, "%s\t%s\n", text, name)
			}
		}
	}
	return b.String()
}

// resolvConf names the engine's server where there is one, else the machine's or the spec's.
func (e *Engine) resolvConf(r record, place network.Place) (string, error) {
	var servers, search, options []string
	switch {
	case place.NetNS != "":
		servers, search, options = []string{dns.Address}, e.networks.Search(), []string{"ndots:0"}
	case r.Spec.Network == HostNetwork:
		raw, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read the machine's name servers: %w", err)
		}
		if len(r.Spec.DNS)+len(r.Spec.Search)+len(r.Spec.Resolver) == 0 {
			return string(raw), nil
		}
		servers, search, options = parseResolv(string(raw))
		fallthrough
	default:
		if len(r.Spec.DNS) > 0 {
			servers = r.Spec.DNS
		}
	}
	if len(r.Spec.Search) > 0 {
		search = r.Spec.Search
	}
	options = append(options, r.Spec.Resolver...)
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && cmp.Or(search[0]) != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String(), nil
}

func parseResolv(text string) (servers, search, options []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			servers = append(servers, fields[1])
		case "search", "domain":
			search = fields[1:]
		case "options":
			options = append(options, fields[1:]...)
		}
	}
	return servers, search, options
}
