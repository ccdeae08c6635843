// Package moment reads points in time as people give them to Docker: "2026-03-01T12:00",
// "1700000000.5" seconds since 1970, or "10m" before now.
package moment

import (
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// Parse reads one. A time without a zone is in that of now.
func Parse(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		return now.Add(-d), nil
	}
	if t, ok := seconds(text); ok {
		return t, nil
	}
	for _, layout := range layouts() {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.Invalid("failed to parse value as time or duration: %q", text).
		Try("write it as 2026-03-01T12:00:00Z, as seconds since 1970, or as 10m for ten minutes ago")
}

func layouts() []string {
	var all []string
	for _, clock := range []string{"2006-01-02", "2006-01-02T15", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		all = append(all, clock, clock+"Z07:00")
	}
	return all
}

// seconds since 1970, with up to nine digits behind the point that count.
func seconds(text string) (time.Time, bool) {
	whole, part, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(part, "0123456789") != "" {
		return time.Time{}, false
	}
	part = (part + "000000000")[:9]
	n, err := strconv.ParseInt(part, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(s, n), true
}
