// Package settings reads how a server is to be run: flags go before the environment, the
// environment before DATA/sampan.toml, that before the defaults.
//
// A setting has one name everywhere: "kv.client" is the flag --kv-client, the variable
// SAMPAN_KV_CLIENT and the key client of the table [kv]. The file is TOML 1.0. A setting
// that is wrong is refused with the place it came from.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/server"
)

// A setting is one line of the manual.
type setting struct {
	name  string
	usage string
	field func(*server.Config) *string
	check func(string) error
}

// all is the list of settings, in the order of the manual.
func all() []setting {
	return []setting{
		{"http", "listen here for pages, APIs, git and apps", func(c *server.Config) *string { return &c.HTTP }, address},
		{"https", "listen here for the same with TLS; needs a domain that is not localhost, or tls.cert", func(c *server.Config) *string { return &c.HTTPS }, address},
		{"ssh", "listen here for git and consoles", func(c *server.Config) *string { return &c.SSH }, address},
		{"domain", "the name of this server; apps are served at NAME.DOMAIN", func(c *server.Config) *string { return &c.Domain }, domain},
		{"database", "postgres://… keeps the records there; default: SQLite in the data directory", func(c *server.Config) *string { return &c.Database }, database},
		{"runner", "auto, containers or processes: how apps run", func(c *server.Config) *string { return &c.Runner }, oneOf("auto", "containers", "processes")},
		{"docker", "path of the socket for Docker's clients, or off; default: run/docker.sock in the data directory", func(c *server.Config) *string { return &c.Docker }, anything},
		{"kv.client", "etcd clients are served here", func(c *server.Config) *string { return &c.KVClient }, address},
		{"kv.peer", "etcd peers are served here", func(c *server.Config) *string { return &c.KVPeer }, address},
		{"tls.cert", "PEM file with the certificate and its chain", func(c *server.Config) *string { return &c.TLSCert }, anything},
		{"tls.key", "PEM file with the key of tls.cert", func(c *server.Config) *string { return &c.TLSKey }, anything},
		{"acme.email", "get certificates by ACME and give this address to the authority", func(c *server.Config) *string { return &c.ACMEEmail }, email},
		{"trusted", "networks (CIDR, separated by commas) of proxies in front whose X-Forwarded headers are believed", func(c *server.Config) *string { return &c.Trusted }, networks},
		{"acme.directory", "URL of the ACME directory; default: Let's Encrypt", func(c *server.Config) *string { return &c.ACMEDirectory }, anything},
		{"acme.roots", "PEM file with the certificates that the directory's own is signed by", func(c *server.Config) *string { return &c.ACMERoots }, anything},
	}
}

// Flags adds a flag for each setting.
func Flags(f *pflag.FlagSet) {
	var defaults server.Config
	defaults.Fill()
	f.String("data", "data", "the directory that holds everything")
	f.Bool("dev", false, "read templates, styles and messages again at each request")
	for _, s := range all() {
		f.String(flagName(s.name), *s.field(&defaults), s.usage)
	}
}

// Read makes the configuration from the flags that were set, the environment and the file.
func Read(f *pflag.FlagSet, env func(string) (string, bool)) (server.Config, error) {
	var c server.Config
	c.Data, _ = f.GetString("data")
	if v, ok := env("SAMPAN_DATA"); ok && !f.Changed("data") {
		c.Data = v
	}
	c.Dev, _ = f.GetBool("dev")
	file := filepath.Join(c.Data, "sampan.toml")
	written, err := readFile(file)
	if err != nil {
		return c, err
	}
	for _, s := range all() {
		from := file + ": key " + s.name
		value, ok := written[s.name]
		if v, set := env(envName(s.name)); set {
			value, ok, from = v, true, envName(s.name)
		}
		if flag := f.Lookup(flagName(s.name)); flag != nil && flag.Changed {
			value, ok, from = flag.Value.String(), true, "--"+flag.Name
		}
		if !ok {
			continue
		}
		if err := s.check(value); err != nil {
			return c, fault.Invalid("%s: %q %w", from, value, err)
		}
		*s.field(&c) = value
	}
	c.Fill()
	return c, nil
}

func flagName(name string) string { return strings.ReplaceAll(name, ".", "-") }

func envName(name string) string {
	return "SAMPAN_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// readFile flattens the tables of the file into the settings' names.
func readFile(file string) (map[string]string, error) {
	var tree map[string]any
	_, err := toml.DecodeFile(file, &tree)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // the server says what a directory needs
		return nil, nil
	}
	if err != nil {
		return nil, fault.Invalid("%s: %w", file, err)
	}
	known := map[string]bool{}
	for _, s := range all() {
		known[s.name] = true
	}
	flat := map[string]string{}
	var walk func(prefix string, tree map[string]any) error
	walk = func(prefix string, tree map[string]any) error {
		for key, v := range tree {
			name := prefix + key
			switch v := v.(type) {
			case map[string]any:
				if err := walk(name+".", v); err != nil {
					return err
				}
			case string:
				if !known[name] {
					return fault.Invalid("%s: there is no setting %q", file, name).Try("see: sampan serve --help")
				}
				flat[name] = v
			default:
				return fault.Invalid("%s: key %s: %v is not a string", file, name, v).Try("write it in quotes")
			}
		}
		return nil
	}
	return flat, walk("", tree)
}

func anything(string) error { return nil }

func address(v string) error {
	if v == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(v); err != nil {
		return errors.New("is not an address; write HOST:PORT or :PORT")
	}
	return nil
}

var domainPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

func domain(v string) error {
	if len(v) > 253 || !domainPattern.MatchString(v) {
		return errors.New("is not a domain name; write it in lower case without scheme or port")
	}
	return nil
}

func database(v string) error {
	if v == "" || strings.HasPrefix(v, "postgres://") || strings.HasPrefix(v, "postgresql://") {
		return nil
	}
	return errors.New("is not a postgres:// URL; leave it out for SQLite")
}

func networks(v string) error {
	for _, n := range strings.Split(v, ",") {
		if _, err := netip.ParsePrefix(strings.TrimSpace(n)); err != nil {
			return fmt.Errorf("holds %q, which is not a network such as 10.0.0.0/8", n)
		}
	}
	return nil
}

func email(v string) error {
	if _, err := mail.ParseAddress(v); err != nil {
		return errors.New("is not a mail address")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		for _, ok := range values {
			if v == ok {
				return nil
			}
		}
		return fmt.Errorf("is none of %s", strings.Join(values, ", "))
	}
}

// Environ is the environment of the process.
func Environ(name string) (string, bool) { return os.LookupEnv(name) }
