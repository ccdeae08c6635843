package probe_test

import (
	"testing"

	"sampan.dev/sampan/engine/internal/probe"
)

func TestEveryCheckExplainsItself(t *testing.T) {
	for _, c := range probe.Run(t.Context()) {
		t.Logf("%-16s %-5v %s", c.Name, c.OK, c.Detail)
		if c.Name == "" || c.Detail == "" || c.OK != (c.Remedy == "") {
			t.Errorf("%+v", c)
		}
	}
}
