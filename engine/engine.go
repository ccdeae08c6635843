// Package engine runs containers on one Linux machine: images, containers, networks, volumes.
//
// Bytes and metadata are kept by containerd's stores, in process; processes are run by
// sampan-init, a small supervisor that outlives this one, so that an Engine which is closed,
// killed or replaced finds its containers running and their logs whole. An image is a set of
// layers (OCI image specification 1.1), a container is a process tree on a writable snapshot
// of one (OCI runtime specification 1.3), a network is a bridge.
//
// A call that returned nil is on the disk: images, volumes and the records of containers
// survive power loss. Every method is safe for concurrent use. Containers are named by their
// ID, an unambiguous prefix of it, or their name.
package engine

import (
	"log/slog"
	"net/netip"
)

// Config says where an Engine lives and what it may use. Only Dir is needed.
type Config struct {
	Dir    string       // everything is below it
	Init   string       // the sampan-init to start; empty: the one that this program carries
	Subnet netip.Prefix // of the default network; zero: the first private one that is free
	DNS    []string     // servers to forward to; empty: the host's
	Log    *slog.Logger // nil: nothing is logged
}

// An Engine is open from Open to Close; its containers run on after that.
type Engine struct {
	cfg Config
}

// Namespace is the one of containerd's namespaces that everything lies in.
const Namespace = "sampan"
