package image

import (
	"bufio"
	"compress/bzip2"
	"context"
	"io"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive/compression"

	"sampan.dev/sampan/internal/fault"
)

// A Flat is an image to be made of the files of a root file system.
type Flat struct {
	Name     string   // empty: it stays without one
	Message  string   // for the history
	Changes  []string // instructions of a Dockerfile, as ApplyChanges takes them
	Platform string
}

// ImportTar makes an image of one layer from a tar file, plain or compressed.
func (s *Store) ImportTar(ctx context.Context, r io.Reader, f Flat) (Image, error) {
	cfg := Config{Created: time.Now()}
	if err := ApplyChanges(&cfg, f.Changes); err != nil {
		return Image{}, err
	}
	layer := Layer{Comment: f.Message, Open: func() (io.ReadCloser, error) { return plain(r) }}
	image, err := s.Make(ctx, Recipe{Name: f.Name, Layers: []Layer{layer}, Config: cfg, Platform: f.Platform})
	if _, known := fault.Of(err); err != nil && !known && ctx.Err() == nil {
		return image, fault.Invalid("this is not a tar file of a root file system: %w", err)
	}
	return image, err
}

// plain decompresses what gzip, bzip2 and zstd wrote.
func plain(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if head, err := buffered.Peek(3); err == nil && string(head) == "BZh" {
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	}
	if head, err := buffered.Peek(6); err == nil && string(head) == "\xfd7zXZ\x00" {
		return nil, fault.Invalid("files compressed with xz are not read").Try("decompress it first: xz -dc FILE | docker import -")
	}
	return compression.DecompressStream(buffered)
}
