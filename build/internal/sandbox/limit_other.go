//go:build !linux

package sandbox

// limit cannot change another process's limits on this system; time is still limited.
func limit(int, Limits) error { return nil }
