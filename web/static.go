package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Static serves files whose addresses hold a hash of their content, so that browsers keep
// them for a year and still see a change at once. Files are kept in memory, compressed
// when first asked for.
type Static struct {
	prefix string
	dev    bool

	mu      sync.RWMutex
	sources []staticSource
	files   map[string]*staticFile
}

type staticSource struct {
	dir  string
	fsys fs.FS
}

type staticFile struct {
	hash, contentType string
	data              []byte
	once              sync.Once
	encoded           map[string][]byte
}

// NewStatic serves below prefix, such as "/static/". With dev the files are read again for each request.
func NewStatic(prefix string, dev bool) *Static {
	return &Static{prefix: strings.TrimSuffix(prefix, "/") + "/", dev: dev, files: map[string]*staticFile{}}
}

// Add takes all files of fsys under the name dir, which may be "".
func (s *Static) Add(dir string, fsys fs.FS) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, staticSource{dir, fsys})
	return s.read(s.files, s.sources[len(s.sources)-1])
}

func (s *Static) read(into map[string]*staticFile, src staticSource) error {
	return fs.WalkDir(src.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(src.fsys, name)
		if err != nil {
			return fmt.Errorf("read static file: %w", err)
		}
		sum := sha256.Sum256(b)
		into[path.Join(src.dir, name)] = &staticFile{data: b, hash: hex.EncodeToString(sum[:6]), contentType: typeOf(name, b)}
		return nil
	})
}

func typeOf(name string, b []byte) string {
	switch path.Ext(name) { // what the machine's mime tables say must not matter
	case ".css":
		return "text/css; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return http.DetectContentType(b)
}

// URL is the address of a file: "site.css" is at "/static/site.1f2e3d4c5b6a.css". It is ""
// for a file that is not there.
func (s *Static) URL(name string) string {
	f := s.file(name)
	if f == nil {
		return ""
	}
	ext := path.Ext(name)
	return s.prefix + strings.TrimSuffix(name, ext) + "." + f.hash + ext
}

func (s *Static) file(name string) *staticFile {
	if s.dev {
		s.reload()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.files[name]
}

// reload keeps the old files when one cannot be read: an editor may be writing it.
func (s *Static) reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string]*staticFile{}
	for _, src := range s.sources {
		if s.read(files, src) != nil {
			return
		}
	}
	s.files = files
}

// ServeHTTP implements [http.Handler] for the addresses that URL gives, and for plain
// names, which browsers must ask for anew.
func (s *Static) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, s.prefix)
	f, hashed := s.file(name), false
	if f == nil {
		plain, hash := splitHash(name)
		if f = s.file(plain); f == nil {
			http.NotFound(w, r)
			return
		}
		hashed = hash == f.hash // an older page's address gets today's file, not to be kept
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `W/"`+f.hash+`"`) // weak: the same for each encoding
	h.Set("Cache-Control", "no-cache")
	if hashed && !s.dev {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("If-None-Match") == h.Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.send(w, r, f)
}

func (s *Static) send(w http.ResponseWriter, r *http.Request, f *staticFile) {
	h, data := w.Header(), f.data
	if compressible(f.contentType) && len(f.data) >= minCompressed {
		addVary(h, "Accept-Encoding")
		if name := chooseEncoding(r.Header.Get("Accept-Encoding")); name != "" {
			data = f.encode(name)
			h.Set("Content-Encoding", name)
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method != http.MethodHead {
		w.Write(data)
	}
}

// splitHash takes the hash out of "site.1f2e3d4c5b6a.css".
func splitHash(name string) (plain, hash string) {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	dot := path.Ext(stem)
	return strings.TrimSuffix(stem, dot) + ext, strings.TrimPrefix(dot, ".")
}

func (f *staticFile) encode(name string) []byte {
	f.once.Do(func() {
		var b bytes.Buffer
		g, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		g.Write(f.data)
		g.Close()
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err) // only a wrong option above
		}
		f.encoded = map[string][]byte{"gzip": b.Bytes(), "zstd": z.EncodeAll(f.data, nil)}
	})
	return f.encoded[name]
}
