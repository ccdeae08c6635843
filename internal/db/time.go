package db

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Time is a moment as both databases keep it: BIGINT microseconds since 1970, in UTC.
// The zero Time is NULL.
type Time struct{ time.Time }

// Now is the present moment as it will be read back.
func Now() Time { return At(time.Now()) }

// At is t as it will be read back.
func At(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{time.UnixMicro(t.UnixMicro()).UTC()}
}

// Value stores the moment.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixMicro(), nil
}

// Scan reads the moment.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = Time{}
	case int64:
		*t = Time{time.UnixMicro(v).UTC()}
	default:
		return fmt.Errorf("a time is stored as BIGINT, not as %T", src)
	}
	return nil
}
