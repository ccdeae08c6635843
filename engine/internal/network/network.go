// Package network connects containers: bridges, namespaces, addresses, published ports, names.
//
// A network is a Linux bridge with a subnet, of IPv4, IPv6 or both. A sandbox is a container's
// network namespace, mounted below Config.Run, so that it lives as long as the mount does and
// needs no process. An endpoint is the sandbox's place in one network: an address and one end of
// a veth pair. A sandbox may have many, which come and go while its container runs. Everything
// that touches packets is one nftables table of this engine for each version of IP; published
// ports are elements of its maps. Containers of one network reach each other unless it isolates
// them, those of different networks do not, and what is not published answers nobody outside.
//
// What is known of sandboxes lies in small files, so that a new process goes on where the
// last one stopped. Only networks that people made are synced: sandboxes do not survive the
// machine.
package network

import (
	"context"
	"crypto/rand"
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
	"strings"
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
	Name      string
	Pools     []Pool // at most one of each version of IP; what is missing is chosen
	NoIPv4    bool
	IPv6      bool
	Internal  bool // no way out
	Isolated  bool // containers reach the host and the world, not each other, nor link-local addresses
	Unmasked  bool // packets leave with the container's address
	Bridge    string
	MTU       int        // zero: that of the machine's way out
	PublishOn netip.Addr // where ports are published that do not say where; zero: everywhere
	Labels    map[string]string
	Request   json.RawMessage // what a client asked for, kept as it came
}

// A Pool is where the addresses of a network come from. What is left open is chosen.
type Pool struct {
	Subnet  netip.Prefix
	Range   netip.Prefix          // addresses are chosen in it; zero: in all of the subnet
	Gateway netip.Addr            // the bridge's own
	Taken   map[string]netip.Addr // by others; never given
}

// A Network is a bridge.
type Network struct {
	ID      string
	Created time.Time
	Spec
}

// Pool is the one of IPv4, or of IPv6.
func (n *Network) Pool(v6 bool) (Pool, bool) {
	for _, p := range n.Pools {
		if p.Subnet.Addr().Is6() == v6 {
			return p, true
		}
	}
	return Pool{}, false
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
	sandboxes map[string]*sandbox
	used      map[netip.Addr]string // address → container
	last      map[poolKey]netip.Addr
	ready     map[string]bool // networks whose bridge is known to be up
	forward   [2]bool         // the host forwards packets of IPv4, of IPv6
}

// Open reads what the last process left. Nothing is changed on the machine until there is a
// sandbox, or Keep when there was one.
func Open(cfg Config) (*Manager, error) {
	for _, dir := range []string{filepath.Join(cfg.Dir, "endpoints"), cfg.Run} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make the directory of the networks: %w", err)
		}
	}
	sum := sha256.Sum256([]byte(cfg.Dir))
	m := &Manager{
		cfg: cfg, key: hex.EncodeToString(sum[:])[:7], resolver: dns.New(cfg.DNS, cfg.Log),
		networks: map[string]*Network{}, sandboxes: map[string]*sandbox{}, used: map[netip.Addr]string{},
		last: map[poolKey]netip.Addr{}, ready: map[string]bool{},
	}
	m.firewall = newFirewall("sampan-" + m.key)
	if err := m.load(); err != nil {
		return nil, err
	}
	return m, nil
}

// Run writes the rules again when another program has thrown them away, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	return m.firewall.watch(ctx, m.cfg.Log, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.ready) == 0 {
			return nil
		}
		return m.rules()
	})
}

// Close leaves every container connected and waits for what is being torn down. When there
// is no container, nothing of ours stays on the machine.
func (m *Manager) Close() error {
	m.mu.Lock()
	for _, s := range m.sandboxes {
		s.silence()
	}
	m.mu.Unlock()
	m.teardown.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	if len(m.sandboxes) == 0 {
		errs = append(errs, m.down())
	}
	return errors.Join(append(errs, m.resolver.Close(), m.firewall.close())...)
}

// down takes the bridges and the rules away; the next sandbox brings them back. The caller
// holds mu.
func (m *Manager) down() error {
	errs := []error{m.firewall.remove()}
	for _, n := range m.networks {
		errs = append(errs, removeBridge(n))
	}
	m.ready = map[string]bool{}
	return errors.Join(errs...)
}

// Create makes a network.
func (m *Manager) Create(ctx context.Context, spec Spec) (Network, error) {
	if spec.Name == "" || spec.Name == Host || spec.Name == None || strings.HasPrefix(spec.Name, "container:") {
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

// add writes a network down, and takes its subnets for this engine: another one on the machine
// that chooses at the same time waits, and sees the bridge. The caller holds mu.
func (m *Manager) add(spec Spec) (*Network, error) {
	unlock, err := lockSubnets()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if spec.Pools, err = m.pools(spec); err != nil {
		return nil, err
	}
	n := &Network{ID: randomID(), Created: time.Now().UTC(), Spec: spec}
	if n.Bridge == "" {
		n.Bridge = "sp" + m.key + n.ID[:5]
		if spec.Name == Default {
			n.Bridge = "sampan-" + m.key
		}
	}
	if err := m.bridgeFree(n.Bridge); err != nil {
		return nil, err
	}
	if n.MTU != 0 && (n.MTU < 68 || n.MTU > 65535) { // RFC 791 §3.1
		return nil, fault.Invalid("packets of at most %d bytes are not possible", n.MTU).Try("use 68 to 65535")
	}
	m.networks[spec.Name] = n
	err = bridge(n)
	if err == nil {
		err = m.save()
	}
	if err != nil {
		delete(m.networks, spec.Name)
		return nil, errors.Join(err, removeBridge(n))
	}
	return n, nil
}

// bridgeFree refuses a name that a network of ours has, or that Linux does not take.
func (m *Manager) bridgeFree(name string) error {
	if len(name) > 15 || strings.ContainsAny(name, "/ \t\n:") || name == "." || name == ".." {
		return fault.Invalid("an interface cannot be named %q", name).Try("use at most 15 letters, digits and dashes")
	}
	for _, n := range m.networks {
		if n.Bridge == name {
			return fault.Conflict("the network %s has the bridge %s", n.Name, name)
		}
	}
	return nil
}

func randomID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
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
	for _, s := range m.sandboxes {
		if s.endpoint(n.Name) != nil {
			return fault.Conflict("container %.12s is in the network %s", s.ID, n.Name).Try("remove it first")
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
	return removeBridge(n)
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
		spec := Spec{Name: Default}
		if m.cfg.Subnet.IsValid() {
			spec.Pools = []Pool{{Subnet: m.cfg.Subnet}}
		}
		return m.add(spec)
	}
	var found []*Network
	for _, n := range m.networks {
		if strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fault.NotFound("there is no network %s", name).Try("create it first")
	}
	return nil, fault.Invalid("%s is the beginning of %d networks", name, len(found)).Try("write more of it")
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
		s := &sandbox{}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, s)
		}
		if err != nil || s.ID == "" || !m.knows(s) {
			// A power loss may leave half a file. Its container does not run any more.
			m.cfg.Log.Warn("an unreadable endpoint is dropped", "file", file, "err", err)
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("remove an unreadable endpoint: %w", err)
			}
			continue
		}
		m.sandboxes[s.ID] = s
		for _, e := range s.Endpoints {
			for _, ip := range e.addresses() {
				m.used[ip] = s.ID
			}
		}
	}
	return nil
}

func (m *Manager) knows(s *sandbox) bool {
	for _, e := range s.Endpoints {
		if m.networks[e.Network] == nil {
			return false
		}
	}
	return true
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

// Purge removes every sandbox and every network from the machine, and forgets them.
func (m *Manager) Purge() error {
	var errs []error
	for _, s := range m.list() {
		errs = append(errs, m.Leave(s.ID))
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
