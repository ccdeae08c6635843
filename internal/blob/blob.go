// Package blob keeps bytes by their content: large files, packages, layers, logs.
//
// A blob is named by its digest, "sha256:" and 64 hexadecimal digits (OCI image
// specification, descriptor.md). What Put has returned survives a crash and power loss; a
// Put that failed leaves nothing. Equal contents are kept once, so whoever deletes must
// know that nobody else refers to them. Stores are safe for concurrent use. A full disk is
// a fault.Full.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// A Ref names a blob and says how long it is.
type Ref struct {
	Digest string // sha256:…
	Size   int64
}

// A Store keeps blobs. Open and Delete of a missing one answer fault.NotFound.
type Store interface {
	Put(ctx context.Context, r io.Reader) (Ref, error)
	Open(ctx context.Context, digest string) (io.ReadSeekCloser, int64, error)
	Has(ctx context.Context, digest string) (bool, error)
	Delete(ctx context.Context, digest string) error
	Each(ctx context.Context, fn func(Ref) error) error
}

// ErrCorrupt says that the bytes are not those that the digest names.
var ErrCorrupt = errors.New("the blob is damaged")

const algorithm = "sha256:"

// parse answers the hexadecimal part of a digest.
func parse(digest string) (string, error) {
	sum, ok := strings.CutPrefix(digest, algorithm)
	if ok && len(sum) == 2*sha256.Size && strings.Trim(sum, "0123456789abcdef") == "" {
		return sum, nil
	}
	return "", fault.Invalid("%q is not a digest", digest).Try("write sha256: and 64 hexadecimal digits")
}

func missing(digest string) error { return fault.NotFound("there is no blob %s", digest) }

// Verify reads r through; at its end it fails with ErrCorrupt when the bytes are not those
// of the digest.
func Verify(r io.Reader, digest string) io.Reader {
	return &verifier{r: r, want: digest, sum: sha256.New()}
}

type verifier struct {
	r    io.Reader
	want string
	sum  hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := algorithm + hex.EncodeToString(v.sum.Sum(nil)); got != v.want {
			return n, fmt.Errorf("%w: %s holds the bytes of %s", ErrCorrupt, v.want, got)
		}
	}
	return n, err
}
