package build

import (
	"context"

	"sampan.dev/sampan/internal/fault"
)

// Build turns a request into a result. A build that breaks is a fault that says why; what it
// printed is in Output.
func (b *Builder) Build(ctx context.Context, req Request) (Result, error) {
	return Result{}, fault.Invalid("nothing here can be built")
}
