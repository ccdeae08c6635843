package node

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// A Package is what package.json says.
type Package struct {
	Name    string            `json:"name"`
	Main    string            `json:"main"`
	Scripts map[string]string `json:"scripts"`
	Engines struct {
		Node string `json:"node"`
	} `json:"-"`
	RawEngines json.RawMessage `json:"engines"`

	Dependencies         map[string]string `json:"dependencies"`
	DevDependencies      map[string]string `json:"devDependencies"`
	OptionalDependencies map[string]string `json:"optionalDependencies"`
}

// needs reports whether there is anything to install.
func (p Package) needs() bool {
	return len(p.Dependencies)+len(p.DevDependencies)+len(p.OptionalDependencies) > 0
}

// Parse reads package.json.
func Parse(text []byte) (Package, error) {
	var p Package
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fault.Invalid("package.json cannot be read: %w", err).Try("correct it and commit it")
	}
	// Old packages have a list there, which npm ignores, too.
	_ = json.Unmarshal(p.RawEngines, &p.Engines)
	if _, err := ParseRange(p.Engines.Node); err != nil {
		return p, err
	}
	return p, nil
}

// A Version is a release: major, minor, patch.
type Version [3]int

func (v Version) String() string {
	return strconv.Itoa(v[0]) + "." + strconv.Itoa(v[1]) + "." + strconv.Itoa(v[2])
}

// Less orders releases.
func (v Version) Less(w Version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

var full = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})$`)

// ParseVersion reads a release; what comes before one ("22.0.0-rc.1") is none.
func ParseVersion(s string) (Version, bool) {
	m := full.FindStringSubmatch(s)
	if m == nil {
		return Version{}, false
	}
	var v Version
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // at most six digits
	}
	return v, true
}

// A Range is a set of releases as npm writes it: ">=20 <23 || 18.x" (docs.npmjs.com, "semver").
type Range struct{ any [][]span } // one of which must hold all spans

// A span is low ≤ version < high.
type span struct{ low, high Version }

const most = 1 << 30

var end = Version{most, 0, 0}

// Has reports whether the range allows v.
func (r Range) Has(v Version) bool {
	for _, all := range r.any {
		ok := true
		for _, s := range all {
			ok = ok && !v.Less(s.low) && v.Less(s.high)
		}
		if ok {
			return true
		}
	}
	return false
}

var (
	hyphen     = regexp.MustCompile(`^\s*(\S+)\s+-\s+(\S+)\s*$`)
	afterOp    = regexp.MustCompile(`([<>=^~])\s+`)
	comparator = regexp.MustCompile(`^(>=|<=|>|<|=|\^|~>?|)v?(\d{1,6}|[xX*])(?:\.(\d{1,6}|[xX*]))?(?:\.(\d{1,6}|[xX*]))?(?:[-+][0-9A-Za-z.+-]*)?$`)
)

// ParseRange reads a range. An empty one allows everything.
func ParseRange(text string) (Range, error) {
	var r Range
	bad := fault.Invalid("package.json asks for a Node release that cannot be understood: %.60q", text).
		Try("write for example \"engines\": {\"node\": \"22.x\"}")
	if len(text) > 1000 {
		return r, bad
	}
	for _, part := range strings.Split(text, "||") {
		var all []span
		if m := hyphen.FindStringSubmatch(part); m != nil {
			part = ">=" + m[1] + " <=" + m[2]
		}
		for _, word := range strings.Fields(afterOp.ReplaceAllString(part, "$1")) {
			s, ok := parseSpan(word)
			if !ok {
				return Range{}, bad
			}
			all = append(all, s)
		}
		r.any = append(r.any, all)
	}
	return r, nil
}

// parseSpan reads one comparator.
func parseSpan(word string) (span, bool) {
	m := comparator.FindStringSubmatch(word)
	if m == nil {
		return span{}, false
	}
	var v Version
	given := 0
	for i := range v {
		n, err := strconv.Atoi(m[i+2])
		if err != nil {
			break
		}
		v[i] = n
		given++
	}
	if given == 0 {
		return span{Version{}, end}, true
	}
	after := next(v, given-1) // the first release that the given numbers do not cover
	switch m[1] {
	case ">=":
		return span{v, end}, true
	case ">":
		return span{after, end}, true
	case "<":
		return span{Version{}, v}, true
	case "<=":
		return span{Version{}, after}, true
	case "^":
		return span{v, next(v, caret(v, given))}, true
	case "~", "~>":
		return span{v, next(v, min(given-1, 1))}, true
	}
	return span{v, after}, true
}

// next raises number i and clears those after it.
func next(v Version, i int) Version {
	w := Version{}
	copy(w[:i+1], v[:i+1])
	w[i]++
	return w
}

// caret is the number that ^ keeps below: the first that is not zero.
func caret(v Version, given int) int {
	for i := range given {
		if v[i] != 0 {
			return i
		}
	}
	return given - 1
}

// Best picks the newest release of a range, of those lines that get long support: the even ones.
func (r Range) Best(all []Version) (Version, bool) {
	var best Version
	found := false
	better := func(v Version) bool {
		even, was := v[0]%2 == 0, best[0]%2 == 0
		return !found || even && !was || even == was && best.Less(v)
	}
	for _, v := range all {
		if r.Has(v) && better(v) {
			best, found = v, true
		}
	}
	return best, found
}
