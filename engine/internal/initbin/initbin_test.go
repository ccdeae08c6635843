package initbin_test

import (
	"os"
	"path/filepath"
	"testing"

	"sampan.dev/sampan/engine/internal/initbin"
	"sampan.dev/sampan/internal/fault"
)

func TestPathTakesTheHint(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	if err := os.WriteFile(program, []byte("#!/bin/true\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := initbin.Path(dir, program); err != nil || got != program {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{filepath.Join(dir, "nowhere"), dir} {
		if _, err := initbin.Path(dir, bad); !fault.Is(err, fault.KindUnavailable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPathFindsTheBuiltOne(t *testing.T) {
	dir := t.TempDir()
	first, err := initbin.Path(dir, "")
	if fault.Is(err, fault.KindUnavailable) {
		t.Skip("sampan-init is neither embedded nor beside the test")
	}
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(first); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("%v, %v", info, err)
	}
	if second, err := initbin.Path(dir, ""); err != nil || second != first {
		t.Errorf("the second time: %q, %v", second, err)
	}
}
