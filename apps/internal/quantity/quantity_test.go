package quantity_test

import (
	"testing"

	"sampan.dev/sampan/apps/internal/quantity"
)

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int64
		ok    bool
	}{
		{"64M", 64 << 20, true}, {"1G", 1 << 30, true}, {"512KB", 512 << 10, true}, {"1.5g", 3 << 29, true},
		{"100", 100, true}, {"0/100M", 100 << 20, true}, {"64M/128M", 128 << 20, true}, {"0", 0, true},
		{"", 0, false}, {"M", 0, false}, {"-1M", 0, false}, {"9999999G", 0, false}, {"NaN", 0, false}, {"1M/2M/3M", 0, false},
	} {
		if err := quantity.CheckMemory(c.text); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.text, err)
		}
		if c.ok && quantity.MemoryLimit(c.text) != c.limit {
			t.Errorf("%q is %d bytes, want %d", c.text, quantity.MemoryLimit(c.text), c.limit)
		}
	}
}

func TestCPU(t *testing.T) {
	for text, want := range map[string]float64{"500m": 0.5, "1": 1, "0.25": 0.25, "100m/2": 2, "0": 0} {
		if err := quantity.CheckCPU(text); err != nil || quantity.CPULimit(text) != want {
			t.Errorf("%q is %v cores, %v; want %v", text, quantity.CPULimit(text), err, want)
		}
	}
	for _, text := range []string{"", "m", "-1", "many", "NaN", "Inf"} {
		if quantity.CheckCPU(text) == nil {
			t.Errorf("%q is taken for an amount of CPU", text)
		}
	}
}

func FuzzMemory(f *testing.F) {
	for _, text := range []string{"64M", "0/1G", "1.5KB", "NaN"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n := quantity.MemoryLimit(text); n < 0 || n > 1<<50 {
			t.Errorf("%q is %d bytes", text, n)
		}
		if c := quantity.CPULimit(text); !(c >= 0 && c <= 1024) {
			t.Errorf("%q is %v cores", text, c)
		}
	})
}
