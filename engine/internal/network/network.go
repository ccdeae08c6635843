// Package network connects containers: bridges, namespaces, addresses, published ports, names.
//
// A network is a Linux bridge with an IPv4 subnet. An endpoint is a container's place in one:
// a network namespace that is mounted below Config.Run, so that it lives as long as the
// mount does and needs no process, and one end of a veth pair in it. Everything that touches
// packets is one nftables table of this engine; published ports are elements of its maps.
// Containers of one network reach each other unless it isolates them, those of different
// networks do not, and what is not published answers nobody outside.
//
// What is known of endpoints lies in small files, so that a new process goes on where the
// last one stopped. Only networks that people made are synced: endpoints do not survive the
// machine.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"sampan.dev/sampan/engine/internal/dns"
	"sampan.dev/sampan/internal/fault"
)

// Default is the name of the network that containers are in when they ask for none.
const Default = "bridge"

// Networks that are not bridges.
const (
	Host = "host" // the container sees the machine's own network
	None = "none" // the container sees only itself
)

// Config of a Manager.
type Config struct {
	Dir    string       // files
	Run    string       // mounted namespaces
	Subnet netip.Prefix // of the default network; zero: the first private one that is free
	DNS    []string     // servers to forward to; empty: the host's
	Log    *slog.Logger
}

// A Spec is what a network shall be.
type Spec struct {
	Name     string
	Subnet   netip.Prefix // zero: the first private one that is free
	Internal bool         // no way out
	Isolated bool         // containers reach the host and the world, not each other
	Labels   map[string]string
}

// A Network is a bridge: its containers reach each other by name unless it isolates them, those
// of other networks not.
type Network struct {
	ID       string
	Name     string
	Bridge   string // the interface on the host
	Subnet   netip.Prefix
	Gateway  netip.Addr
	Internal bool
	Isolated bool
	Labels   map[string]string
	Created  time.Time
}

// A Manager is safe for concurrent use.
type Manager struct {
	cfg      Config
	key      string // tells this engine's interfaces and tables from another engine's
	resolver *dns.Resolver
	firewall *firewall
	teardown sync.WaitGroup

	mu        sync.Mutex
	networks  map[string]*Network // by name
	endpoints map[string]*endpoint
	used      map[netip.Addr]string // address → container
	last      map[string]netip.Addr // network → the address given last
	ready     map[string]bool       // networks whose bridge is known to be up
	forward   bool                  // the host forwards packets
}

// Open reads what the last process left. Nothing is changed on the machine until Join, or
// Keep when there are endpoints.
func Open(cfg Config) (*Manager, error) {
	for _, dir := range []string{filepath.Join(cfg.Dir, "endpoints"), cfg.Run} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make the directory of the networks: %w", err)
		}
	}
	sum := sha256.Sum256([]byte(cfg.Dir))
	m := &Manager{
		cfg: cfg, key: hex.EncodeToString(sum[:])[:7], resolver: dns.New(cfg.DNS, cfg.Log),
		networks: map[string]*Network{}, endpoints: map[string]*endpoint{}, used: map[netip.Addr]string{},
		last: map[string]netip.Addr{}, ready: map[string]bool{},
	}
	m.firewall = &firewall{name: "sampan-" + m.key}
	if err := m.load(); err != nil {
		return nil, err
	}
	return m, nil
}

// Close leaves every container connected and waits for what is being torn down. When there
// is no container, nothing of ours stays on the machine.
func (m *Manager) Close() error {
	m.mu.Lock()
	for _, e := range m.endpoints {
		e.silence()
	}
	m.mu.Unlock()
	m.teardown.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	if len(m.endpoints) == 0 {
		errs = append(errs, m.down())
	}
	return errors.Join(append(errs, m.resolver.Close(), m.firewall.close())...)
}

// down takes the bridges and the rules away; the next Join brings them back. The caller
// holds mu.
func (m *Manager) down() error {
	errs := []error{m.firewall.remove()}
	for _, n := range m.networks {
		errs = append(errs, removeLink(n.Bridge))
	}
	m.ready = map[string]bool{}
	return errors.Join(errs...)
}

// Create makes a network.
func (m *Manager) Create(ctx context.Context, spec Spec) (Network, error) {
	if spec.Name == "" || spec.Name == Host || spec.Name == None {
		return Network{}, fault.Invalid("a network cannot be named %q", spec.Name).On("name")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.networks[spec.Name]; ok || spec.Name == Default {
		return Network{}, fault.Conflict("there is already a network %s", spec.Name)
	}
	n, err := m.add(spec)
	if err != nil {
		return Network{}, err
	}
	return *n, nil
}

// add writes a network down, and takes its subnet for this engine: another one on the machine
// that chooses at the same time waits, and sees the bridge. The caller holds mu.
func (m *Manager) add(spec Spec) (*Network, error) {
	unlock, err := lockSubnets()
	if err != nil {
		return nil, err
	}
	defer unlock()
	subnet, err := m.subnet(spec.Subnet)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(m.key + "/" + spec.Name))
	n := &Network{
		ID: hex.EncodeToString(sum[:]), Name: spec.Name, Bridge: "sampan-" + m.key,
		Subnet: subnet, Gateway: subnet.Addr().Next(), Internal: spec.Internal, Isolated: spec.Isolated,
		Labels: spec.Labels, Created: time.Now().UTC(),
	}
	if spec.Name != Default {
		n.Bridge = "sp" + m.key + n.ID[:5]
	}
	m.networks[spec.Name] = n
	if err := errors.Join(m.save(), bridge(n)); err != nil {
		delete(m.networks, spec.Name)
		return nil, errors.Join(err, removeLink(n.Bridge))
	}
	return n, nil
}

// Remove takes away a network that nobody is in.
func (m *Manager) Remove(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return err
	}
	if n.Name == Default {
		return fault.Forbidden("the network %s belongs to the engine", Default)
	}
	for id, e := range m.endpoints {
		if e.Network == n.Name {
			return fault.Conflict("container %.12s is in the network %s", id, n.Name).Try("remove it first")
		}
	}
	delete(m.networks, n.Name)
	if err := m.save(); err != nil {
		m.networks[n.Name] = n
		return err
	}
	if m.ready[n.Name] {
		delete(m.ready, n.Name)
		if err := m.rules(); err != nil {
			return err
		}
	}
	return removeLink(n.Bridge)
}

// Networks lists them by name.
func (m *Manager) Networks() []Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Network, 0, len(m.networks))
	for _, n := range m.networks {
		all = append(all, *n)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Network finds one by name or the beginning of its ID. An empty name is the default one's.
func (m *Manager) Network(name string) (Network, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return Network{}, err
	}
	return *n, nil
}

func (m *Manager) find(name string) (*Network, error) {
	if name == "" || name == "default" {
		name = Default
	}
	if n, ok := m.networks[name]; ok {
		return n, nil
	}
	if name == Default {
		return m.add(Spec{Name: Default, Subnet: m.cfg.Subnet})
	}
	for _, n := range m.networks {
		if len(name) >= 12 && len(name) <= len(n.ID) && n.ID[:len(name)] == name {
			return n, nil
		}
	}
	return nil, fault.NotFound("there is no network %s", name).Try("create it first")
}

func (m *Manager) save() error {
	return writeFile(filepath.Join(m.cfg.Dir, "networks.json"), m.networks, true)
}

func (m *Manager) load() error {
	raw, err := os.ReadFile(filepath.Join(m.cfg.Dir, "networks.json"))
	if err == nil {
		err = json.Unmarshal(raw, &m.networks)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the networks: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(m.cfg.Dir, "endpoints", "*.json"))
	if err != nil {
		return fmt.Errorf("list the endpoints: %w", err)
	}
	for _, file := range files {
		e := &endpoint{}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, e)
		}
		if err != nil || m.networks[e.Network] == nil {
			// A power loss may leave half a file. Its container does not run any more.
			m.cfg.Log.Warn("an unreadable endpoint is dropped", "file", file, "err", err)
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("remove an unreadable endpoint: %w", err)
			}
			continue
		}
		m.endpoints[e.ID] = e
		m.used[e.IP] = e.ID
	}
	return nil
}

// writeFile replaces a JSON file in one step; synced, it survives power loss.
func writeFile(path string, v any, synced bool) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(raw)
	if err == nil && synced {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil || !synced {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Purge removes every endpoint and every network from the machine, and forgets them.
func (m *Manager) Purge() error {
	var errs []error
	for _, e := range m.list() {
		errs = append(errs, m.Leave(e.ID))
	}
	m.teardown.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	errs = append(errs, m.sweep(), m.down())
	m.networks = map[string]*Network{}
	return errors.Join(append(errs, m.save())...)
}

// Search is what the machine appends to short names.
func (m *Manager) Search() []string { return m.resolver.Search() }
