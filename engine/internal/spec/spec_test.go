package spec_test

import (
	"testing"

	"golang.org/x/net/bpf"

	"sampan.dev/sampan/engine/internal/spec"
)

func TestX(t *testing.T) {
	caps, _ := spec.Capabilities(false, nil, nil)
	var f spec.Filters
	p, err := f.Program(caps.Bounding)
	t.Log(len(p)/8, err)
	_ = bpf.RetA{}
}
