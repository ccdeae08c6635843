package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/quantity"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

const maxConfig = 512 << 10 // bytes of all values; an environment has no room for more

var (
	configKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	limitKey  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
)

// A Patch changes parts of a configuration: a nil value takes a key away.
type Patch struct {
	Values, Memory, CPU, Tags, Registry map[string]*string
	Healthcheck                         map[string]json.RawMessage
}

// Unset is the error of taking away what is not there.
type Unset struct{ Key, Section string }

func (u *Unset) Error() string { return u.Key + " does not exist under " + u.Section }

// HTTPStatus is 422, as the controller API has it.
func (u *Unset) HTTPStatus() int { return 422 }

// Config is what the next release runs with.
func (p *Platform) Config(ctx context.Context, who identity.Who, name string) (catalog.App, catalog.Config, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return a, catalog.Config{}, err
	}
	latest, err := p.catalog.Latest(ctx, p.catalog.DB(), a.ID)
	if err != nil {
		return a, catalog.Config{}, err
	}
	cfg, err := p.catalog.Config(ctx, p.catalog.DB(), a.ID, latest.ConfigID)
	return a, cfg, err
}

// SetConfig makes a release with a changed configuration and deploys it.
func (p *Platform) SetConfig(ctx context.Context, who identity.Who, name string, patch Patch) (catalog.App, catalog.Config, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return a, catalog.Config{}, err
	}
	var cfg catalog.Config
	_, err = p.pipeline.Ship(ctx, a, func(ctx context.Context) (rel catalog.Release, err error) {
		cfg, rel, err = p.catalog.Change(ctx, a, who.Name, func(s catalog.Settings) (catalog.Settings, string, error) {
			return patch.apply(s, who.Name)
		})
		return rel, err
	})
	return a, cfg, err
}

// apply merges the patch and says in one sentence what it changed.
func (patch Patch) apply(s catalog.Settings, author string) (catalog.Settings, string, error) {
	var says []string
	sections := []struct {
		name  string
		now   *map[string]string
		patch map[string]*string
		check func(key, value string) error
		say   func(added, changed, deleted []string) string
	}{
		{"values", &s.Values, patch.Values, checkValue, sayValues},
		{"memory", &s.Memory, patch.Memory, checkLimit(quantity.CheckMemory), sayName("changed limits for memory")},
		{"cpu", &s.CPU, patch.CPU, checkLimit(quantity.CheckCPU), sayName("changed limits for cpu")},
		{"tags", &s.Tags, patch.Tags, checkTag, sayName("changed tags")},
		{"registry", &s.Registry, patch.Registry, checkRegistry, sayName("changed registry info")},
	}
	for _, section := range sections {
		next := maps.Clone(*section.now)
		added, changed, deleted, err := merge(next, section.patch, section.name, section.check)
		if err != nil {
			return s, "", err
		}
		*section.now = next
		if len(added)+len(changed)+len(deleted) > 0 {
			says = append(says, section.say(added, changed, deleted))
		}
	}
	if len(s.Registry) > 0 && s.Values["PORT"] == "" {
		return s, "", fault.Invalid("PORT needs to be set in the config when using a private registry")
	}
	healthchecks, changed, err := mergeChecks(s.Healthcheck, patch.Healthcheck)
	if err != nil {
		return s, "", err
	}
	if changed {
		s.Healthcheck = healthchecks
		says = append(says, "changed healthcheck info")
	}
	if len(says) == 0 {
		return s, "", fault.Conflict("%s changed nothing - release stopped", author)
	}
	if size(s.Values) > maxConfig {
		return s, "", fault.Invalid("the configuration is larger than %d KiB", maxConfig>>10).Try("keep files elsewhere and their address here").On("values")
	}
	return s, author + " " + strings.Join(says, ", "), nil
}

func size(values map[string]string) (n int) {
	for k, v := range values {
		n += len(k) + len(v) + 2
	}
	return n
}

func merge(next map[string]string, patch map[string]*string, section string, check func(key, value string) error) (added, changed, deleted []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(patch)) {
		value := patch[key]
		if section == "registry" {
			key = strings.ToLower(key)
		}
		old, had := next[key]
		switch {
		case value == nil && !had:
			return nil, nil, nil, &Unset{key, section}
		case value == nil:
			delete(next, key)
			deleted = append(deleted, key)
			continue
		}
		if err := check(key, *value); err != nil {
			return nil, nil, nil, err
		}
		next[key] = *value
		switch {
		case !had:
			added = append(added, key)
		case old != *value:
			changed = append(changed, key)
		}
	}
	return added, changed, deleted, nil
}

func sayValues(added, changed, deleted []string) string {
	var parts []string
	for _, part := range []struct {
		verb string
		keys []string
	}{{"added", added}, {"changed", changed}, {"deleted", deleted}} {
		if len(part.keys) > 0 {
			parts = append(parts, part.verb+" "+strings.Join(part.keys, ", "))
		}
	}
	return strings.Join(parts, ", ")
}

func sayName(text string) func(_, _, _ []string) string {
	return func(_, _, _ []string) string { return text }
}

func checkValue(key, value string) error {
	switch {
	case !configKey.MatchString(key):
		return fault.Invalid("Config keys must start with a letter or underscore and only contain [A-z0-9_]").On("values")
	case strings.ContainsRune(value, 0):
		return fault.Invalid("the value of %s holds a NUL byte", key).On("values")
	}
	if key == "PORT" {
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > 65535 {
			return fault.Invalid("PORT can only be a numeric value between 1 and 65535").On("values")
		}
	}
	return nil
}

func checkLimit(check func(string) error) func(key, value string) error {
	return func(key, value string) error {
		if !limitKey.MatchString(key) {
			return fault.Invalid("%q is not a process type", key).Try("use a-z, 0-9 and hyphens")
		}
		return check(value)
	}
}

func checkTag(key, value string) error {
	return fault.Invalid("No nodes matched the provided labels: %s=%s", key, value)
}

func checkRegistry(key, value string) error {
	if !slices.Contains([]string{"username", "password", "hostname"}, key) {
		return fault.Invalid("%q is not a setting of a registry", key).Try("set username, password and hostname").On("registry")
	}
	return nil
}

// mergeChecks changes the probes of process types; a null probe goes away.
func mergeChecks(now, patch map[string]json.RawMessage) (map[string]json.RawMessage, bool, error) {
	next, changed := maps.Clone(now), false
	for process, body := range patch {
		var probes map[string]json.RawMessage
		merged := map[string]json.RawMessage{}
		if len(next[process]) > 0 {
			if err := json.Unmarshal(next[process], &merged); err != nil {
				return nil, false, fmt.Errorf("read health check of %s: %w", process, err)
			}
		}
		if err := json.Unmarshal(body, &probes); err != nil {
			return nil, false, fault.Invalid("the health check of %s is no object of probes", process).On("healthcheck")
		}
		if probes == nil {
			merged = map[string]json.RawMessage{}
		}
		for kind, probe := range probes {
			if err := checkProbe(kind, probe); err != nil {
				return nil, false, err
			}
			if bytes.Equal(bytes.TrimSpace(probe), []byte("null")) {
				delete(merged, kind)
			} else {
				merged[kind] = probe
			}
		}
		text, err := json.Marshal(merged)
		if err != nil {
			return nil, false, fmt.Errorf("encode health check of %s: %w", process, err)
		}
		if len(merged) == 0 {
			_, had := next[process]
			changed = changed || had
			delete(next, process)
			continue
		}
		changed = changed || !bytes.Equal(next[process], text)
		next[process] = text
	}
	return next, changed, nil
}

func checkProbe(kind string, body json.RawMessage) error {
	if kind != "livenessProbe" && kind != "readinessProbe" {
		return fault.Invalid("%q is not a probe", kind).Try("use livenessProbe or readinessProbe").On("healthcheck")
	}
	var probe *struct {
		SuccessThreshold *int            `json:"successThreshold"`
		Exec             json.RawMessage `json:"exec"`
		HTTPGet          *struct {
			Path string          `json:"path"`
			Port json.RawMessage `json:"port"`
		} `json:"httpGet"`
		TCPSocket json.RawMessage `json:"tcpSocket"`
	}
	if err := json.Unmarshal(body, &probe); err != nil {
		return fault.Invalid("a %s is an object", kind).On("healthcheck")
	}
	switch {
	case probe == nil:
		return nil
	case kind == "livenessProbe" && probe.SuccessThreshold != nil && *probe.SuccessThreshold != 1:
		return fault.Invalid("livenessProbe successThreshold must be 1").On("healthcheck")
	case probe.HTTPGet != nil && strings.ContainsAny(probe.HTTPGet.Path, "\r\n \x00"):
		return fault.Invalid("%q is not a path", probe.HTTPGet.Path).On("healthcheck")
	}
	return nil
}
