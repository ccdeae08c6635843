// Package blobtest is the test that every blob.Store passes.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"sampan.dev/sampan/internal/blob"
	"sampan.dev/sampan/internal/fault"
)

const hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"

// Run tests a kind of Store; newStore makes an empty one.
func Run(t *testing.T, newStore func(t *testing.T) blob.Store) {
	for _, test := range []struct {
		what string
		run  func(t *testing.T, s blob.Store)
	}{
		{"bytes come back", comeBack},
		{"what is not there is not found", notFound},
		{"what is no digest is refused", noDigest},
		{"a broken upload leaves nothing", brokenUpload},
		{"an ended context ends the upload", endedUpload},
		{"equal bytes are kept once", keptOnce},
		{"many may put and read at once", atOnce},
		{"each can be stopped", stopped},
	} {
		t.Run(test.what, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

func put(t *testing.T, s blob.Store, text string) blob.Ref {
	t.Helper()
	ref, err := s.Put(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func all(t *testing.T, s blob.Store) (refs []blob.Ref) {
	t.Helper()
	err := s.Each(t.Context(), func(r blob.Ref) error {
		refs = append(refs, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func comeBack(t *testing.T, s blob.Store) {
	if ref := put(t, s, "hello"); ref != (blob.Ref{Digest: hello, Size: 5}) {
		t.Fatalf("put %+v", ref)
	}
	r, size, err := s.Open(t.Context(), hello)
	if err != nil || size != 5 {
		t.Fatalf("open: %d bytes, %v", size, err)
	}
	defer r.Close()
	if _, err := r.Seek(1, io.SeekStart); err != nil {
		t.Error(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "ello" {
		t.Errorf("read %q, %v", text, err)
	}
	if ok, err := s.Has(t.Context(), hello); err != nil || !ok {
		t.Errorf("has: %v, %v", ok, err)
	}
	empty := put(t, s, "")
	if empty.Size != 0 {
		t.Errorf("the empty blob has %d bytes", empty.Size)
	}
	if err := s.Delete(t.Context(), hello); err != nil {
		t.Error(err)
	}
	if refs := all(t, s); !slices.Equal(refs, []blob.Ref{empty}) {
		t.Errorf("after the deletion: %v", refs)
	}
}

func notFound(t *testing.T, s blob.Store) {
	if _, _, err := s.Open(t.Context(), hello); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("open: %v", err)
	}
	if err := s.Delete(t.Context(), hello); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("delete: %v", err)
	}
	if ok, err := s.Has(t.Context(), hello); ok || err != nil {
		t.Errorf("has: %v, %v", ok, err)
	}
}

func noDigest(t *testing.T, s blob.Store) {
	put(t, s, "hello")
	sum := strings.TrimPrefix(hello, "sha256:")
	for _, digest := range []string{
		"", "sha256:", sum, "md5:" + sum, strings.ToUpper(hello), hello + "0", hello[:70] + "/", "sha256:../" + sum[3:], hello + "\x00",
	} {
		if _, _, err := s.Open(t.Context(), digest); !fault.Is(err, fault.KindInvalid) {
			t.Errorf("open %q: %v", digest, err)
		}
		if _, err := s.Has(t.Context(), digest); !fault.Is(err, fault.KindInvalid) {
			t.Errorf("has %q: %v", digest, err)
		}
		if err := s.Delete(t.Context(), digest); !fault.Is(err, fault.KindInvalid) {
			t.Errorf("delete %q: %v", digest, err)
		}
	}
}

func brokenUpload(t *testing.T, s blob.Store) {
	broken := errors.New("the line is cut")
	_, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("put: %v", err)
	}
	if refs := all(t, s); len(refs) != 0 {
		t.Errorf("it left %v", refs)
	}
}

func endedUpload(t *testing.T, s blob.Store) {
	ctx, stop := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) {
		stop()
		return len(p), nil
	})
	if _, err := s.Put(ctx, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if refs := all(t, s); len(refs) != 0 {
		t.Errorf("it left %v", refs)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func keptOnce(t *testing.T, s blob.Store) {
	a, b := put(t, s, "hello"), put(t, s, "hello")
	if refs := all(t, s); a != b || !slices.Equal(refs, []blob.Ref{a}) {
		t.Errorf("put %v and %v, kept %v", a, b, refs)
	}
}

func atOnce(t *testing.T, s blob.Store) {
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			want := bytes.Repeat(fmt.Append(nil, i%4), 100_000)
			ref, err := s.Put(t.Context(), bytes.NewReader(want))
			if err != nil {
				t.Error(err)
				return
			}
			r, _, err := s.Open(t.Context(), ref.Digest)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			got, err := io.ReadAll(blob.Verify(r, ref.Digest))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	workers.Wait()
	if refs := all(t, s); len(refs) != 4 {
		t.Errorf("%d blobs are kept", len(refs))
	}
}

func stopped(t *testing.T, s blob.Store) {
	put(t, s, "a")
	put(t, s, "b")
	enough, n := errors.New("enough"), 0
	err := s.Each(t.Context(), func(blob.Ref) error {
		n++
		return enough
	})
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("stopped after %d: %v", n, err)
	}
}
