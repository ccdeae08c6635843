// Package network is what Docker's API knows of networks.
//
// Those that an engine makes are bridges. Two more are always there: "host", the machine's
// own, and "none". They and the default network "bridge" can neither be made nor removed.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	types "github.com/moby/moby/api/types/network"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/moment"
	"sampan.dev/sampan/internal/fault"
)

// A Service answers requests about networks. It is safe for concurrent use.
type Service struct{ engine *engine.Engine }

// New answers from an engine.
func New(e *engine.Engine) *Service { return &Service{e} }

// Routes adds all of them.
func (s *Service) Routes(rt *api.Router) {
	for pattern, h := range map[string]api.Handler{
		"GET /networks":                  s.list,
		"GET /networks/{$}":              s.list,
		"POST /networks/create":          s.create,
		"POST /networks/prune":           s.prune,
		"GET /networks/{id}":             s.inspect,
		"DELETE /networks/{id}":          s.remove,
		"POST /networks/{id}/connect":    s.connect,
		"POST /networks/{id}/disconnect": s.disconnect,
	} {
		rt.Handle(pattern, h)
	}
}

const bridge = "bridge" // the driver, and the network that is there from the beginning

// predefined reports whether a network belongs to the engine.
func predefined(name string) bool {
	return name == engine.DefaultNetwork || name == engine.HostNetwork || name == engine.NoNetwork
}

// FixedID is that of "host" and "none", which no engine keeps.
func FixedID(name string) string {
	sum := sha256.Sum256([]byte("sampan network " + name))
	return hex.EncodeToString(sum[:])
}

// fixed are the networks that are no bridges.
func fixed() []types.Network {
	var all []types.Network
	for name, driver := range map[string]string{engine.HostNetwork: "host", engine.NoNetwork: "null"} {
		all = append(all, types.Network{
			Name: name, ID: FixedID(name), Created: time.Unix(0, 0).UTC(), Scope: "local", Driver: driver, EnableIPv4: true,
			IPAM: types.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{},
		})
	}
	return all
}

// all networks, by name.
func (s *Service) all(ctx context.Context) ([]types.Network, error) {
	bridges, err := s.engine.Networks(ctx)
	if err != nil {
		return nil, err
	}
	all := fixed()
	for _, n := range bridges {
		all = append(all, describe(n))
	}
	slices.SortFunc(all, func(a, b types.Network) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// find looks for one by its name, its ID or the beginning of it. The words of the error are
// Docker's.
func (s *Service) find(ctx context.Context, term string) (types.Network, error) {
	all, err := s.all(ctx)
	if err != nil {
		return types.Network{}, err
	}
	for _, n := range all {
		if n.Name == term || n.ID == term {
			return n, nil
		}
	}
	var found []types.Network
	for _, n := range all {
		if term != "" && strings.HasPrefix(n.ID, term) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return types.Network{}, fault.NotFound("network %s not found", term)
	case 1:
		return found[0], nil
	}
	return types.Network{}, fault.Invalid("network %s is ambiguous (%d matches found based on ID prefix)", term, len(found))
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	choose, err := chooser(f)
	if err != nil {
		return err
	}
	all, err := s.all(r.Context())
	if err != nil {
		return err
	}
	unused, err := f.Bool("dangling", false)
	if err != nil {
		return err
	}
	out := []types.Summary{}
	for _, n := range all {
		if !choose(n) {
			continue
		}
		if f.Has("dangling") {
			used, err := s.used(r.Context(), n)
			if err != nil {
				return err
			}
			if unused == (used || predefined(n.Name)) {
				continue
			}
		}
		out = append(out, types.Summary{Network: n})
	}
	return api.JSON(w, http.StatusOK, out)
}

// chooser makes a function of filters, but for "dangling".
func chooser(f api.Filters) (func(types.Network) bool, error) {
	if err := f.Check("dangling", "driver", "id", "label", "label!", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, kind := range f.Get("type") {
		if kind != "custom" && kind != "builtin" {
			return nil, fault.Invalid("invalid value for filter 'type': must be 'builtin' or 'custom'")
		}
	}
	return func(n types.Network) bool {
		kind := "custom"
		if predefined(n.Name) {
			kind = "builtin"
		}
		return f.Match("driver", n.Driver) && f.Match("scope", n.Scope) && f.Match("type", kind) &&
			f.MatchPattern("id", n.ID) && f.MatchPattern("name", n.Name) && f.MatchLabels(n.Labels)
	}, nil
}

func (s *Service) used(ctx context.Context, n types.Network) (bool, error) {
	members, err := s.members(ctx, n)
	return len(members) > 0, err
}

func (s *Service) inspect(w http.ResponseWriter, r *http.Request) error {
	term := r.PathValue("id")
	n, err := s.find(r.Context(), term)
	if err != nil {
		return err
	}
	if scope := api.Query(r).Get("scope"); scope != "" && scope != n.Scope {
		return fault.NotFound("network %s not found", term)
	}
	members, err := s.members(r.Context(), n)
	if err != nil {
		return err
	}
	return api.JSON(w, http.StatusOK, types.Inspect{Network: n, Containers: members})
}

// members are the containers that are in a network now.
func (s *Service) members(ctx context.Context, n types.Network) (map[string]types.EndpointResource, error) {
	containers, err := s.engine.Containers(ctx, nil)
	if err != nil {
		return nil, err
	}
	all := map[string]types.EndpointResource{}
	if n.Driver != bridge {
		for _, c := range containers {
			if c.Spec.Network == n.Name && c.Pid > 0 {
				all[c.ID] = types.EndpointResource{Name: c.Name, EndpointID: FixedID(n.Name + " " + c.ID)}
			}
		}
		return all, nil
	}
	endpoints, err := s.engine.NetworkMembers(ctx, n.Name)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		if e, ok := endpoints[c.ID]; ok {
			all[c.ID] = endpoint(c.Name, e)
		}
	}
	return all, nil
}

func endpoint(name string, e engine.Endpoint) types.EndpointResource {
	out := types.EndpointResource{Name: name, EndpointID: e.ID, IPv4Address: e.IPv4, IPv6Address: e.IPv6}
	if mac, err := net.ParseMAC(e.MAC); err == nil {
		out.MacAddress = types.HardwareAddr(mac)
	}
	return out
}

func (s *Service) remove(w http.ResponseWriter, r *http.Request) error {
	n, err := s.find(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if predefined(n.Name) {
		return fault.Forbidden("%s is a pre-defined network and cannot be removed", n.Name)
	}
	if err := s.busy(r.Context(), n); err != nil {
		return err
	}
	err = s.engine.RemoveNetwork(r.Context(), n.ID)
	if fault.Is(err, fault.KindConflict) {
		return fault.Forbidden("network %s has active endpoints: %w", n.Name, err)
	}
	if err != nil {
		return err
	}
	return api.NoContent(w)
}

// busy says who is in a network.
func (s *Service) busy(ctx context.Context, n types.Network) error {
	members, err := s.members(ctx, n)
	if err != nil || len(members) == 0 {
		return err
	}
	var names []string
	for _, m := range members {
		names = append(names, fmt.Sprintf("name:%q id:%q", m.Name, m.EndpointID[:min(12, len(m.EndpointID))]))
	}
	slices.Sort(names)
	return fault.Forbidden("network %s has active endpoints (%s)", n.Name, strings.Join(names, ", "))
}

func (s *Service) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	if err := f.Check("label", "label!", "until"); err != nil {
		return err
	}
	until, err := before(f)
	if err != nil {
		return err
	}
	all, err := s.all(r.Context())
	if err != nil {
		return err
	}
	out := types.PruneReport{}
	for _, n := range all {
		if predefined(n.Name) || !until.IsZero() && !n.Created.Before(until) || !f.MatchLabels(n.Labels) {
			continue
		}
		gone, err := s.removeUnused(r.Context(), n)
		if err != nil {
			return err
		}
		if gone {
			out.NetworksDeleted = append(out.NetworksDeleted, n.Name)
		}
	}
	return api.JSON(w, http.StatusOK, out)
}

// before is the earliest of the times in the filter "until".
func before(f api.Filters) (time.Time, error) {
	var earliest time.Time
	for _, text := range f.Get("until") {
		t, err := moment.Parse(text, time.Now())
		if err != nil {
			return t, err
		}
		if earliest.IsZero() || t.Before(earliest) {
			earliest = t
		}
	}
	return earliest, nil
}

func (s *Service) removeUnused(ctx context.Context, n types.Network) (bool, error) {
	used, err := s.used(ctx, n)
	if err != nil || used {
		return false, err
	}
	err = s.engine.RemoveNetwork(ctx, n.ID)
	if fault.Is(err, fault.KindConflict) || fault.Is(err, fault.KindNotFound) {
		return false, nil // somebody came in, or removed it
	}
	return err == nil, err
}

func (s *Service) connect(w http.ResponseWriter, r *http.Request) error {
	var asked types.ConnectRequest
	if err := api.Decode(r, &asked); err != nil {
		return err
	}
	if _, err := s.engine.Container(r.Context(), asked.Container); err != nil {
		return missing(asked.Container, err)
	}
	n, err := s.find(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	switch n.Name {
	case engine.HostNetwork:
		return fault.Invalid("cannot connect container to host network - container must be created in host network mode")
	case engine.NoNetwork:
		return fault.Forbidden("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	if !api.AtLeast(r, "1.54") && asked.EndpointConfig != nil {
		asked.EndpointConfig.MacAddress = nil
	}
	if err := s.engine.Connect(r.Context(), asked.Container, n.ID, attachment(n.Name, asked.EndpointConfig)); err != nil {
		return missing(asked.Container, err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func attachment(name string, e *types.EndpointSettings) engine.Attachment {
	a := engine.Attachment{Network: name}
	if e == nil {
		return a
	}
	a.Aliases, a.Priority = e.Aliases, e.GwPriority
	if len(e.MacAddress) > 0 {
		a.MAC = e.MacAddress.String()
	}
	if e.IPAMConfig != nil {
		a.IPv4, a.IPv6 = e.IPAMConfig.IPv4Address, e.IPAMConfig.IPv6Address
	}
	return a
}

func (s *Service) disconnect(w http.ResponseWriter, r *http.Request) error {
	var asked types.DisconnectRequest
	if err := api.Decode(r, &asked); err != nil {
		return err
	}
	if _, err := s.engine.Container(r.Context(), asked.Container); err != nil {
		return missing(asked.Container, err)
	}
	n, err := s.find(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if n.Name == engine.HostNetwork {
		return fault.Invalid("cannot disconnect container from host network - container was created in host network mode")
	}
	if err := s.engine.Disconnect(r.Context(), asked.Container, n.ID, asked.Force); err != nil {
		return missing(asked.Container, err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// missing says in Docker's words that it was the container which is not there.
func missing(container string, err error) error {
	if fault.Is(err, fault.KindNotFound) {
		return fault.NotFound("No such container: %s", container)
	}
	return err
}
