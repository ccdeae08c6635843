package image_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
)

// A remote image: its blobs by digest, and its manifest.
type remote struct {
	arch     string
	blobs    map[string][]byte
	manifest []byte
}

func newRemote(arch string, files map[string]string) remote {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	plain := tarOf(files)
	z.Write(plain)
	z.Close()
	r := remote{arch: arch, blobs: map[string][]byte{}}
	add := func(mediaType string, raw []byte) map[string]any {
		d := digest.FromBytes(raw).String()
		r.blobs[d] = raw
		return map[string]any{"mediaType": mediaType, "digest": d, "size": len(raw)}
	}
	config, _ := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "config": map[string]any{"Cmd": []string{"/x"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromBytes(plain).String()}},
	})
	r.manifest, _ = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": add("application/vnd.oci.image.config.v1+json", config),
		"layers": []any{add("application/vnd.oci.image.layer.v1.tar+gzip", zipped.Bytes())},
	})
	r.blobs[digest.FromBytes(r.manifest).String()] = r.manifest
	return r
}

// A registry is as much of one as pulls and pushes need.
type registry struct {
	user, password string // empty: everybody may do everything
	token          string // set: they buy this one, at /token

	mu        sync.Mutex
	blobs     map[string][]byte // repository@digest
	manifests map[string][]byte // repository@digest and repository:tag
	types     map[string]string
	uploads   map[string]*bytes.Buffer
	Posts     []string // queries of uploads that were begun
}

func newRegistry() *registry {
	return &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}, types: map[string]string{}, uploads: map[string]*bytes.Buffer{}}
}

func (r *registry) hold(repo, tag string, image remote) {
	for d, raw := range image.blobs {
		r.blobs[repo+"@"+d] = raw
	}
	r.put(repo, tag, manifestType, image.manifest)
}

// holdIndex keeps one name for several platforms.
func (r *registry) holdIndex(repo, tag string, all ...remote) {
	var list []any
	for _, image := range all {
		r.hold(repo, image.arch, image)
		list = append(list, map[string]any{
			"mediaType": manifestType, "digest": digest.FromBytes(image.manifest), "size": len(image.manifest),
			"platform": map[string]any{"os": "linux", "architecture": image.arch},
		})
	}
	index, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": list})
	r.put(repo, tag, indexType, index)
}

func (r *registry) put(repo, tag, mediaType string, raw []byte) {
	for _, name := range []string{repo + ":" + tag, repo + "@" + digest.FromBytes(raw).String()} {
		r.manifests[name], r.types[name] = raw, mediaType
	}
}

func (r *registry) allows(w http.ResponseWriter, q *http.Request) bool {
	switch name, password, ok := q.BasicAuth(); {
	case r.user == "":
		return true
	case r.token == "" && ok && name == r.user && password == r.password:
		return true
	case r.token != "" && q.Header.Get("Authorization") == "Bearer "+r.token:
		return true
	case r.token != "":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, q.Host))
	default:
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

func (r *registry) sell(w http.ResponseWriter, q *http.Request) {
	name, password, _ := q.BasicAuth()
	if q.Method == http.MethodPost {
		name, password = q.FormValue("username"), q.FormValue("password")
	}
	if name != r.user || password != r.password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"token": r.token, "access_token": r.token})
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.URL.Path == "/token" {
		r.sell(w, q)
		return
	}
	if !r.allows(w, q) || q.URL.Path == "/v2/" {
		return
	}
	path := strings.TrimPrefix(q.URL.Path, "/v2/")
	if repo, ok := strings.CutSuffix(path, "/tags/list"); ok {
		r.list(w, repo)
		return
	}
	if repo, what, ok := strings.Cut(path, "/manifests/"); ok {
		r.serveManifest(w, q, repo, what)
		return
	}
	if repo, what, ok := strings.Cut(path, "/blobs/"); ok {
		r.serveBlob(w, q, repo, what)
		return
	}
	http.NotFound(w, q)
}

func (r *registry) list(w http.ResponseWriter, repo string) {
	var tags []string
	for name := range r.manifests {
		if tag, ok := strings.CutPrefix(name, repo+":"); ok {
			tags = append(tags, tag)
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"name": repo, "tags": tags})
}

func (r *registry) serveManifest(w http.ResponseWriter, q *http.Request, repo, what string) {
	if q.Method == http.MethodPut {
		raw, _ := io.ReadAll(q.Body)
		tag := what
		if strings.HasPrefix(what, "sha256:") {
			tag = "untagged"
		}
		r.put(repo, tag, q.Header.Get("Content-Type"), raw)
		w.WriteHeader(http.StatusCreated)
		return
	}
	sep := ":"
	if strings.HasPrefix(what, "sha256:") {
		sep = "@"
	}
	raw, ok := r.manifests[repo+sep+what]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", r.types[repo+sep+what])
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(raw).String())
	w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
	if q.Method == http.MethodGet {
		w.Write(raw)
	}
}

func (r *registry) serveBlob(w http.ResponseWriter, q *http.Request, repo, what string) {
	upload, uploading := strings.CutPrefix(what, "uploads/")
	switch {
	case uploading && q.Method == http.MethodPost:
		r.begin(w, q, repo)
	case uploading:
		raw, _ := io.ReadAll(q.Body)
		want := q.URL.Query().Get("digest")
		if digest.FromBytes(raw).String() != want || upload == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.blobs[repo+"@"+want] = raw
		w.WriteHeader(http.StatusCreated)
	default:
		raw, ok := r.blobs[repo+"@"+what]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
		if q.Method == http.MethodGet {
			w.Write(raw)
		}
	}
}

func (r *registry) begin(w http.ResponseWriter, q *http.Request, repo string) {
	r.Posts = append(r.Posts, q.URL.RawQuery)
	if raw, ok := r.blobs[q.URL.Query().Get("from")+"@"+q.URL.Query().Get("mount")]; ok {
		r.blobs[repo+"@"+q.URL.Query().Get("mount")] = raw
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/1")
	w.WriteHeader(http.StatusAccepted)
}
