package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"sampan.dev/sampan/engine/internal/image"
	"sampan.dev/sampan/internal/fault"
)

func TestPull(t *testing.T) {
	registry := newRegistry()
	registry.hold("team/app", "1", newRemote("amd64", map[string]string{"x": "1"}))
	server := httptest.NewServer(registry)
	defer server.Close()
	here := server.Listener.Addr().String()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := silent.Addr().String()
	silent.Close()
	s, _ := open(t, t.TempDir())
	cases := []struct {
		sentence, ref string
		kind          fault.Kind
		ok            bool
	}{
		{"an image is fetched", here + "/team/app:1", 0, true},
		{"a tag that is not there", here + "/team/app:2", fault.KindNotFound, false},
		{"a repository that is not there", here + "/team/other:1", fault.KindNotFound, false},
		{"a registry that does not answer", nobody + "/team/app:1", fault.KindUnavailable, false},
		{"what is no name", "Team//x", fault.KindInvalid, false},
	}
	for _, c := range cases {
		t.Run(c.sentence, func(t *testing.T) {
			var last image.Progress
			got, err := s.Pull(t.Context(), c.ref, image.PullOptions{}, func(p image.Progress) { last = p })
			if !c.ok {
				if !fault.Is(err, c.kind) {
					t.Errorf("the error is %v", err)
				}
				return
			}
			if err != nil || len(got.Names) != 1 || got.Names[0] != c.ref || last.Status != "Status: Downloaded newer image for "+c.ref {
				t.Errorf("%+v, %v, %+v", got, err, last)
			}
		})
	}
}

func TestImportOfALayout(t *testing.T) {
	r := newRemote("amd64", map[string]string{"x": "1"})
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"io.containerd.image.name":"docker.io/made/layout:1"}}]}`,
		manifestType, digest.FromBytes(r.manifest), len(r.manifest))
	files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": index}
	for d, raw := range r.blobs {
		files["blobs/sha256/"+strings.TrimPrefix(d, "sha256:")] = string(raw)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(tarOf(files))
	z.Close()
	s, _ := open(t, t.TempDir())
	got, err := s.Import(t.Context(), &zipped)
	if err != nil || len(got) != 1 || got[0].Names[0] != "made/layout:1" || got[0].Config.Command[0] != "/x" {
		t.Errorf("%+v, %v", got, err)
	}
}

// What an image unpacks stays in its layer.
func TestALayerCannotLeaveItsDirectory(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/tmp"})
	w.WriteHeader(&tar.Header{Name: "out/sampan-escaped", Mode: 0o600, Size: 1})
	io.WriteString(w, "x")
	w.WriteHeader(&tar.Header{Name: "../../../../../../tmp/sampan-escaped", Mode: 0o600, Size: 1})
	io.WriteString(w, "x")
	w.Close()
	s, _ := open(t, t.TempDir())
	_, _ = s.Assemble(t.Context(), "evil", "", []image.Layer{layer("", b.Bytes())}, image.Config{})
	if exists("/tmp/sampan-escaped") {
		t.Error("a file of the layer lies outside")
	}
}

func FuzzImport(f *testing.F) {
	f.Add(small)
	f.Add([]byte(`{}`))
	s, _ := open(f, f.TempDir())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, err := s.Import(t.Context(), bytes.NewReader(raw)); err == nil && len(got) > 0 {
			t.Logf("%d images", len(got))
		}
	})
}
