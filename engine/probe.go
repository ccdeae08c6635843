package engine

import (
	"context"

	"sampan.dev/sampan/engine/internal/probe"
)

// A Check is one thing that this machine can do, or what to do so that it can.
type Check = probe.Check

// Probe tries what containers need, one after the other, and takes back what it did.
func Probe(ctx context.Context) []Check { return probe.Run(ctx) }
