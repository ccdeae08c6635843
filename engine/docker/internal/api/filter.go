package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// Filters choose things of a list: key → values.
type Filters map[string]map[string]bool

// FiltersOf reads the parameter "filters": {"label":{"a=b":true}}, or the older {"label":["a=b"]}.
func FiltersOf(r *http.Request) (Filters, error) { return ParseFilters(r.URL.Query().Get("filters")) }

// ParseFilters reads filters in either form; an empty text has none.
func ParseFilters(text string) (Filters, error) {
	f := Filters{}
	if text == "" {
		return f, nil
	}
	if json.Unmarshal([]byte(text), &f) == nil {
		return f, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(text), &lists); err != nil {
		return nil, fault.Invalid("invalid filter")
	}
	f = Filters{}
	for key, values := range lists {
		f[key] = map[string]bool{}
		for _, v := range values {
			f[key][v] = true
		}
	}
	return f, nil
}

// Check refuses keys that are not allowed.
func (f Filters) Check(allowed ...string) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(allowed, key) {
			return fault.Invalid("invalid filter '%s'", key)
		}
	}
	return nil
}

// Has reports whether there are values for key.
func (f Filters) Has(key string) bool { return len(f[key]) > 0 }

// Get lists the values of key in order.
func (f Filters) Get(key string) []string { return slices.Sorted(maps.Keys(f[key])) }

// Match reports whether value is one of key's, or key is absent.
func (f Filters) Match(key, value string) bool { return !f.Has(key) || f[key][value] }

// MatchAny reports whether one of the values is key's, or key is absent.
func (f Filters) MatchAny(key string, values ...string) bool {
	return !f.Has(key) || slices.ContainsFunc(values, func(v string) bool { return f[key][v] })
}

// MatchPrefix reports whether value begins with one of key's, or key is absent.
func (f Filters) MatchPrefix(key, value string) bool {
	return f.find(key, func(v string) bool { return strings.HasPrefix(value, v) })
}

// MatchPattern reports whether one of key's values, a regular expression, is found in value, or
// key is absent.
func (f Filters) MatchPattern(key, value string) bool {
	return f.find(key, func(v string) bool {
		if v == value {
			return true
		}
		found, err := regexp.MatchString(v, value)
		return err == nil && found
	})
}

// find reports whether one of key's values fits, or key is absent.
func (f Filters) find(key string, fits func(string) bool) bool {
	if !f.Has(key) {
		return true
	}
	for v := range f[key] {
		if fits(v) {
			return true
		}
	}
	return false
}

// MatchLabels reports whether all of the labels that are asked for are there, as NAME or NAME=VALUE,
// and none of those under "label!".
func (f Filters) MatchLabels(labels map[string]string) bool {
	for want := range f["label"] {
		if !hasLabel(labels, want) {
			return false
		}
	}
	for unwanted := range f["label!"] {
		if hasLabel(labels, unwanted) {
			return false
		}
	}
	return true
}

func hasLabel(labels map[string]string, want string) bool {
	name, value, valued := strings.Cut(want, "=")
	got, there := labels[name]
	return there && (!valued || got == value)
}

// Bool is the value of key as a yes or no.
func (f Filters) Bool(key string, missing bool) (bool, error) {
	values, ok := f[key]
	if !ok {
		return missing, nil
	}
	yes, no := values["1"] || values["true"], values["0"] || values["false"]
	if yes == no {
		return missing, ErrFilter(key, f.Get(key)...)
	}
	return yes, nil
}

// ErrFilter says that the values of a filter make no sense.
func ErrFilter(key string, values ...string) error {
	return fault.Invalid("invalid filter '%s=%s'", key, fmt.Sprint(values))
}
