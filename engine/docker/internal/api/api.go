// Package api is what all kinds of things in the Docker Engine API share: routes, versions,
// errors, filters, streams.
//
// The API is versioned: a path may begin with /v1.NN, and what a client of that version did
// not know is left out or read as it was meant then. Errors are objects with one member,
// "message". A connection that carries bytes both ways is taken out of HTTP (Hijack).
//
// Follows the Docker Engine API, MinVersion to MaxVersion.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// The versions that are understood. MaxVersion is the one that github.com/moby/moby/api describes.
const (
	MinVersion = "1.24"
	MaxVersion = "1.56"
)

// A Handler answers one request. An error is written as Docker does it, unless the answer has begun.
type Handler func(w http.ResponseWriter, r *http.Request) error

type contextKey int

const (
	versionKey contextKey = iota
	nameKey
)

// Version is the one that the client speaks.
func Version(r *http.Request) string {
	if v, ok := r.Context().Value(versionKey).(string); ok {
		return v
	}
	return MaxVersion
}

// AtLeast reports whether the client speaks that version, as in "1.44", or a newer one.
func AtLeast(r *http.Request, version string) bool { return compare(Version(r), version) >= 0 }

// compare orders versions by their numbers. What is no number counts as zero.
func compare(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		n, _ := strconv.Atoi(x)
		m, _ := strconv.Atoi(y)
		if n != m {
			return n - m
		}
	}
	return 0
}

// checkVersion uses Docker's words, for clients look for them.
func checkVersion(v string) error {
	if compare(v, MinVersion) < 0 {
		return fault.Invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version",
			v, MinVersion)
	}
	if compare(v, MaxVersion) > 0 {
		return fault.Invalid("client version %s is too new. Maximum supported API version is %s", v, MaxVersion)
	}
	return nil
}

// cutVersion takes a leading /v1.NN off a path.
func cutVersion(path string) (version, rest string) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path
	}
	version, rest, ok = strings.Cut(after, "/")
	if !ok || version == "" || strings.Trim(version, "0123456789.") != "" {
		return "", path
	}
	return version, "/" + rest
}

// Name is what stands between the two ends of a route that HandleName has made.
func Name(r *http.Request) string {
	name, _ := r.Context().Value(nameKey).(string)
	return name
}

func with(r *http.Request, key contextKey, value string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), key, value))
}

// JSON answers with v.
func JSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// NoContent answers that it is done.
func NoContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
