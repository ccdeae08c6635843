package moment_test

import (
	"testing"
	"time"

	"sampan.dev/sampan/engine/docker/internal/moment"
)

func TestParse(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("x", 3600))
	cases := []struct {
		text string
		want time.Time
		ok   bool
	}{
		{"10m", now.Add(-10 * time.Minute), true},
		{"0", time.Unix(0, 0), true},
		{"1700000000", time.Unix(1700000000, 0), true},
		{"1700000000.5", time.Unix(1700000000, 500_000_000), true},
		{"1700000000.000000001999", time.Unix(1700000000, 1), true},
		{"2026-03-01", time.Date(2026, 3, 1, 0, 0, 0, 0, now.Location()), true},
		{"2026-03-01Z", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), true},
		{"2026-03-01T10:11", time.Date(2026, 3, 1, 10, 11, 0, 0, now.Location()), true},
		{"2026-03-01T10:11:12Z", time.Date(2026, 3, 1, 10, 11, 12, 0, time.UTC), true},
		{"2026-03-01T10:11:12.5+02:00", time.Date(2026, 3, 1, 8, 11, 12, 500_000_000, time.UTC), true},
		{"", time.Time{}, false},
		{"soon", time.Time{}, false},
		{"1.x", time.Time{}, false},
	}
	for _, c := range cases {
		got, err := moment.Parse(c.text, now)
		if (err == nil) != c.ok || !got.Equal(c.want) {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1.5")
	f.Fuzz(func(t *testing.T, text string) { _, _ = moment.Parse(text, time.Now()) })
}
