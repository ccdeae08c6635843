// Package machine knows how this machine reaches the outside: proxies, registries, trust.
//
// The tools that are installed are asked where they would fetch from. Only settings that hold
// no secret are passed on to builds: a token of the operator must not be readable by whoever
// may push.
package machine

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Settings are the machine's, read when they are first needed. They are safe for concurrent use.
type Settings struct {
	env   []string
	value map[string]string
	goEnv func() map[string]string
	npm   func() string
}

// From makes settings out of an environment.
func From(env []string) *Settings {
	s := &Settings{env: env, value: map[string]string{}}
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			s.value[name] = value
		}
	}
	s.goEnv = sync.OnceValue(s.askGo)
	s.npm = sync.OnceValue(s.askNPM)
	return s
}

// goNames are those of go's settings that say where modules come from.
var goNames = [...]string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "GOVCS"}

var proxyNames = [...]string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// askGo asks the installed go, which also reads its own file of settings.
func (s *Settings) askGo() map[string]string {
	all := map[string]string{}
	out, err := s.ask("go", append([]string{"env", "-json", "GOROOT", "GOVERSION"}, goNames[:]...)...)
	if err == nil {
		_ = json.Unmarshal(out, &all) // what go prints is JSON; nothing is known otherwise
	}
	for _, name := range goNames {
		if value := s.value[name]; value != "" {
			all[name] = value
		}
	}
	return all
}

func (s *Settings) askNPM() string {
	for _, name := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY"} {
		if value := s.value[name]; value != "" {
			return value
		}
	}
	out, err := s.ask("npm", "config", "get", "registry")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func (s *Settings) ask(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = s.env, os.TempDir() // no project's settings
	return cmd.Output()
}

// HostGo is the installed Go: the directory it lies in and its version, "go1.26.8"; empty
// when there is none.
func (s *Settings) HostGo() (root, version string) {
	env := s.goEnv()
	return env["GOROOT"], env["GOVERSION"]
}

// Go is the environment in which go finds modules.
func (s *Settings) Go() []string {
	env := s.Proxies()
	for _, name := range goNames {
		if value := s.goEnv()[name]; value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// NPM is the environment in which npm finds packages.
func (s *Settings) NPM() []string {
	env := s.Proxies()
	if r := s.npm(); r != "" {
		env = append(env, "npm_config_registry="+r)
	}
	return env
}

// Proxies are the settings by which programs find their way out.
func (s *Settings) Proxies() []string {
	var env []string
	for _, name := range proxyNames {
		if value := s.value[name]; value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Get is a variable of the environment.
func (s *Settings) Get(name string) string { return s.value[name] }

// Registry is npm's, with a slash at its end; empty when nobody says which.
func (s *Settings) Registry() string {
	if r := s.npm(); r != "" {
		return strings.TrimSuffix(r, "/") + "/"
	}
	return ""
}

// GoProxies are the module proxies to ask, in order. "direct" is not one of them.
func (s *Settings) GoProxies() []string {
	var all []string
	for _, item := range strings.FieldsFunc(s.goEnv()["GOPROXY"], func(r rune) bool { return r == ',' || r == '|' }) {
		item = strings.TrimSpace(item)
		if item == "off" {
			break
		}
		if u, err := url.Parse(item); err == nil && u.Host != "" {
			all = append(all, strings.TrimSuffix(item, "/"))
		}
	}
	return all
}

// SumDB is the checksum database to believe; "off" is none.
func (s *Settings) SumDB() string { return s.goEnv()["GOSUMDB"] }

// bundles are where systems keep the certificates that they trust.
var bundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine, Arch
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
	"/etc/ssl/ca-bundle.pem",             // SUSE
	"/etc/ssl/cert.pem",                  // macOS, BSD
}

// Certificates is the file of the certificate authorities that this machine trusts; empty
// when there is none.
func (s *Settings) Certificates() string {
	for _, file := range append([]string{s.value["SSL_CERT_FILE"]}, bundles[:]...) {
		if info, err := os.Stat(file); file != "" && err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}
