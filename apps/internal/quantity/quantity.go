// Package quantity reads the amounts of memory and CPU that apps are limited to.
//
// Memory is a number with a unit, "64M" or "1GB"; CPU is cores or thousandths of one, "0.5"
// or "500m". "64M/128M" is a request and a limit; the limit is what bounds an instance. "0"
// is no limit.
package quantity

import (
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// Memory reads bytes.
func Memory(text string) (int64, error) {
	number := strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B")
	shift := 0
	if n := len(number); n > 0 {
		if i := strings.IndexByte("KMGT", number[n-1]); i >= 0 {
			shift, number = 10*(i+1), number[:n-1]
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0) || n*float64(int64(1)<<shift) > 1<<50 {
		return 0, fault.Invalid("%q is not an amount of memory", text).Try("write it as 256M or 1G")
	}
	return int64(n * float64(int64(1)<<shift)), nil
}

// CPU reads cores.
func CPU(text string) (float64, error) {
	number, milli := strings.CutSuffix(strings.TrimSpace(text), "m")
	n, err := strconv.ParseFloat(number, 64)
	if milli {
		n /= 1000
	}
	if err != nil || !(n >= 0 && n <= 1024) {
		return 0, fault.Invalid("%q is not an amount of CPU", text).Try("write it as 0.5 or 500m")
	}
	return n, nil
}

// limit is what follows the slash, or all.
func limit(text string) string {
	if _, after, ok := strings.Cut(text, "/"); ok {
		return after
	}
	return text
}

// CheckMemory reports whether text is a limit of memory, with or without a request.
func CheckMemory(text string) error {
	return check(text, func(s string) error { _, err := Memory(s); return err })
}

// CheckCPU reports whether text is a limit of CPU, with or without a request.
func CheckCPU(text string) error {
	return check(text, func(s string) error { _, err := CPU(s); return err })
}

func check(text string, one func(string) error) error {
	for part := range strings.SplitSeq(text, "/") {
		if err := one(part); err != nil {
			return err
		}
	}
	if strings.Count(text, "/") > 1 {
		return fault.Invalid("%q has more than a request and a limit", text).Try("write it as 64M/128M")
	}
	return nil
}

// MemoryLimit is the limit in bytes; 0 is none.
func MemoryLimit(text string) int64 {
	n, err := Memory(limit(text))
	if err != nil {
		return 0
	}
	return n
}

// CPULimit is the limit in cores; 0 is none.
func CPULimit(text string) float64 {
	n, err := CPU(limit(text))
	if err != nil {
		return 0
	}
	return n
}
