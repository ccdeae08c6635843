package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/engine/internal/store"
	"sampan.dev/sampan/internal/fault"
)

func open(t testing.TB, dir string) (*image.Store, *store.Store) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("images are unpacked as root")
	}
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), store.Config{Dir: dir, Namespace: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	images := image.New(s, filepath.Join(dir, "layers"), log)
	t.Cleanup(images.Close)
	return images, s
}

func tarOf(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), ModTime: time.Unix(1, 0)})
		io.WriteString(w, text)
	}
	w.Close()
	return b.Bytes()
}

func layer(key string, raw []byte) image.Layer {
	return image.Layer{Key: key, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }}
}

func TestAssembleIsDeterministicAndReadsAKnownLayerOnce(t *testing.T) {
	ctx := t.Context()
	s, _ := open(t, t.TempDir())
	reads := 0
	l := image.Layer{Key: "app 1", Open: func() (io.ReadCloser, error) {
		reads++
		return io.NopCloser(bytes.NewReader(tarOf(map[string]string{"bin/app": "#!"}))), nil
	}}
	cfg := image.Config{Command: []string{"/bin/app"}, Env: []string{"A=1"}}
	first, err := s.Assemble(ctx, "hello:1", "", []image.Layer{l}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Assemble(ctx, "hello:2", "", []image.Layer{l}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != second.Digest || reads != 1 {
		t.Errorf("digests %s and %s, %d reads", first.Digest, second.Digest, reads)
	}
	child, err := s.Assemble(ctx, "child", "hello:1", []image.Layer{layer("", tarOf(map[string]string{"etc/x": "y"}))}, image.Config{Env: []string{"B=2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(child.Config.Env, " "); got != "A=1 B=2" || child.Config.Command[0] != "/bin/app" {
		t.Errorf("the child has %q and %q", got, child.Config.Command)
	}
}

func remove(t *testing.T, s *image.Store, ref string) {
	t.Helper()
	r, err := s.Removal(t.Context(), ref)
	if err == nil {
		err = s.Remove(t.Context(), r, false)
	}
	if err != nil {
		t.Fatalf("remove %s: %v", ref, err)
	}
}

func TestAnImageGoesWithItsLastName(t *testing.T) {
	ctx := t.Context()
	s, raw := open(t, t.TempDir())
	made, err := s.Assemble(ctx, "hello:1", "", []image.Layer{layer("k", tarOf(map[string]string{"a": "b"}))}, image.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(ctx, "hello:1", "other/name"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"hello:1", "docker.io/library/hello:1", "other/name:latest", made.ID, made.Digest, made.ID[7:19], "x@" + made.Digest} {
		if found, err := s.Image(ctx, ref); err != nil || found.ID != made.ID {
			t.Errorf("%s: %v, %v", ref, found.ID, err)
		}
	}
	remove(t, s, "hello:1")
	if _, err := s.Removal(ctx, "hello@"+made.Digest); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("a repository that has no name for it: %v", err)
	}
	if err := s.Tag(ctx, made.ID, "third:1"); err != nil {
		t.Fatal(err)
	}
	remove(t, s, "third@"+made.Digest)
	raw.Collect(ctx)
	if _, err := raw.Content().Info(ctx, digest.Digest(made.Digest)); err != nil {
		t.Errorf("gone although it has a name: %v", err)
	}
	remove(t, s, made.ID[:16])
	raw.Collect(ctx)
	if _, err := raw.Content().Info(ctx, digest.Digest(made.Digest)); err == nil {
		t.Error("its bytes stay without a name")
	}
	if _, err := s.Image(ctx, "hello:1"); !fault.Is(err, fault.KindNotFound) {
		t.Errorf("the error is %v", err)
	}
	again, err := s.Assemble(ctx, "hello:1", "", []image.Layer{layer("k", tarOf(map[string]string{"a": "b"}))}, image.Config{})
	if err != nil || again.Digest != made.Digest {
		t.Errorf("again: %v %v", again.Digest, err)
	}
}

func TestAMovedNameLeavesTheOldImageBehind(t *testing.T) {
	ctx := t.Context()
	s, raw := open(t, t.TempDir())
	var ids []string
	for _, text := range []string{"one", "two"} {
		i, err := s.Assemble(ctx, "app", "", []image.Layer{layer("", tarOf(map[string]string{"a": text}))}, image.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, i.ID)
	}
	raw.Collect(ctx)
	old, err := s.Image(ctx, ids[0])
	if err != nil || len(old.Names) != 0 {
		t.Errorf("%v, %v", old.Names, err)
	}
	if now, err := s.Image(ctx, "app"); err != nil || now.ID != ids[1] {
		t.Errorf("%v, %v", now.ID, err)
	}
}

func TestImport(t *testing.T) {
	archive := tarOf(map[string]string{
		"manifest.json": `[{"Config":"c.json","RepoTags":["made/here:1"],"Layers":["l.tar"]}]`,
		"c.json":        `{"architecture":"amd64","os":"linux","config":{"Cmd":["/x"]},"rootfs":{"type":"layers","diff_ids":["` + digest.FromBytes(small).String() + `"]}}`,
		"l.tar":         string(small),
	})
	cases := []struct {
		sentence string
		raw      []byte
		kind     fault.Kind
		ok       bool
	}{
		{"a docker archive is imported", archive, 0, true},
		{"a text is no archive", []byte("hello"), fault.KindInvalid, false},
		{"nothing is no archive", nil, fault.KindInvalid, false},
		{"half of an archive is none", archive[:len(archive)/2], fault.KindInvalid, false},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			s, _ := open(t, t.TempDir())
			got, err := s.Import(t.Context(), bytes.NewReader(c.raw))
			if c.ok {
				if err != nil || len(got) != 1 || got[0].Names[0] != "made/here:1" {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if !fault.Is(err, c.kind) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

var small = tarOf(map[string]string{"x": "1"})

func TestAStoreHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := store.Open(t.Context(), store.Config{Dir: dir, Namespace: "test", Log: slog.New(slog.DiscardHandler)})
	if !fault.Is(err, fault.KindConflict) {
		t.Errorf("the error is %v", err)
	}
}

func TestAPowerLossDamagesNoImage(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	layers := func() []image.Layer {
		return []image.Layer{layer("", tarOf(map[string]string{"a": "below"})), layer("", tarOf(map[string]string{"b": "above"}))}
	}
	var made image.Image
	t.Run("before", func(t *testing.T) {
		s, raw := open(t, dir)
		var err error
		if made, err = s.Assemble(ctx, "app", "", layers(), image.Config{}); err != nil {
			t.Fatal(err)
		}
		shown := filepath.Join(dir, "shown")
		os.Mkdir(shown, 0o700)
		if err := raw.Show(ctx, made.Chain, shown); err != nil { // holds the layers by a view
			t.Fatal(err)
		}
		store.Unmount(shown)
	})
	// What a power loss leaves: a mark of another life of the machine, and empty files.
	chains, _ := filepath.Glob(filepath.Join(dir, "overlayfs", "snapshots", "*", "fs", "*"))
	if len(chains) != 2 {
		t.Fatalf("the layers are %v", chains)
	}
	for _, file := range chains {
		os.Truncate(file, 0)
	}
	first := digest.FromBytes(tarOf(map[string]string{"a": "below"}))
	mark := fmt.Sprintf(`{"Boot":"another","Target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d},"Chains":[%q,%q]}`,
		made.Digest, size(t, dir, made.Digest), first, made.Chain)
	os.MkdirAll(filepath.Join(dir, "layers", "unsynced"), 0o700)
	os.WriteFile(filepath.Join(dir, "layers", "unsynced", "x.json"), []byte(mark), 0o600)
	s, raw := open(t, dir)
	if err := s.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	shown := filepath.Join(dir, "shown")
	if err := raw.Show(ctx, made.Chain, shown); err != nil {
		t.Fatal(err)
	}
	defer store.Unmount(shown)
	for name, want := range map[string]string{"a": "below", "b": "above"} {
		if got, err := os.ReadFile(filepath.Join(shown, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

func size(t *testing.T, dir, blob string) int64 {
	info, err := os.Stat(filepath.Join(dir, "content", "blobs", "sha256", strings.TrimPrefix(blob, "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func BenchmarkAssemble7MB(b *testing.B) {
	s, _ := open(b, b.TempDir())
	raw := bytes.Repeat([]byte("0123456789abcdef"), 7<<16)
	for i := 0; b.Loop(); i++ {
		raw[i%1000]++
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(raw))})
		w.Write(raw)
		w.Close()
		if _, err := s.Assemble(context.Background(), "app", "", []image.Layer{layer("", buf.Bytes())}, image.Config{}); err != nil {
			b.Fatal(err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
