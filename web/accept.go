package web

import (
	"slices"
	"strconv"
	"strings"
)

// accepted is one value of an Accept header; see RFC 9110 §12.4.2.
type accepted struct {
	value string // lower case, without parameters
	q     float64
}

// maxAccepted bounds the work that a header can ask for.
const maxAccepted = 32

// parseAccept reads an Accept header, the most wanted first. Values refused by q=0 are last.
// What it cannot read it leaves out: such a header is advice, not a request.
func parseAccept(header string) []accepted {
	var list []accepted
	for part := range strings.SplitSeq(header, ",") {
		value, params, _ := strings.Cut(part, ";")
		value = strings.ToLower(strings.TrimSpace(value))
		if value == "" {
			continue
		}
		if len(list) == maxAccepted {
			break
		}
		if q, ok := quality(params); ok {
			list = append(list, accepted{value, q})
		}
	}
	slices.SortStableFunc(list, func(a, b accepted) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	return list
}

func quality(params string) (float64, bool) {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return q, err == nil && q >= 0 && q <= 1
		}
	}
	return 1, true
}

// chooseEncoding picks zstd or gzip, or "" for neither, from an Accept-Encoding header.
func chooseEncoding(header string) string {
	if header == "" {
		return ""
	}
	best, bestQ := "", 0.0
	for _, name := range [...]string{"zstd", "gzip"} {
		if q := encodingQuality(header, name); q > bestQ {
			best, bestQ = name, q
		}
	}
	return best
}

func encodingQuality(header, name string) float64 {
	any := 0.0
	for _, a := range parseAccept(header) {
		switch a.value {
		case name, "x-" + name:
			return a.q
		case "*":
			any = a.q
		}
	}
	return any
}
