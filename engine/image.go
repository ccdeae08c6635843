package engine

import (
	"io"
	"time"
)

// An Image that can be run.
type Image struct {
	ID      string   // digest of its configuration
	Digest  string   // of its manifest
	Names   []string // references, familiar form
	Size    int64    // bytes of all its layers, unpacked form not counted
	Created time.Time
	Config  ImageConfig
}

// An ImageConfig is what an image says about the containers made from it.
type ImageConfig struct {
	Entrypoint []string
	Command    []string
	Env        []string
	WorkDir    string
	User       string
	Ports      []string // "8080/tcp"
	Volumes    []string // paths
	Labels     map[string]string
	StopSignal string
	Health     *Health
	Created    time.Time // zero: the beginning of 1970, so that equal input gives equal digests
}

// A Layer is a tar stream that is laid over those before it.
type Layer struct {
	// Key names the content for whoever gives it: equal keys promise equal bytes, and a layer
	// whose key is known is not opened. Empty: always read.
	Key  string
	Open func() (io.ReadCloser, error)
}

// Progress of a pull.
type Progress struct {
	Ref    string // what is being fetched
	Status string // "resolving", "downloading", "unpacking", "done"
	Done   int64  // bytes
	Total  int64  // bytes; zero: not known
}
