package engine

import (
	"net/netip"
	"time"
)

// A NetworkSpec is what a network shall be.
type NetworkSpec struct {
	Name     string
	Subnet   netip.Prefix // zero: the first private one that is free
	Internal bool         // no way out
	Labels   map[string]string
}

// A Network is a bridge: its containers reach each other by name, those of other networks not.
type Network struct {
	ID       string
	Name     string
	Bridge   string // the interface on the host
	Subnet   netip.Prefix
	Gateway  netip.Addr
	Internal bool
	Labels   map[string]string
	Created  time.Time
}

// A VolumeInfo is a directory that outlives the containers which use it.
type VolumeInfo struct {
	Name    string
	Path    string // on the host
	Labels  map[string]string
	Created time.Time
}
