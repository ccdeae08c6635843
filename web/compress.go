package web

import (
	"compress/gzip"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// minCompressed is the size below which compressing costs more than it saves.
const minCompressed = 1024

// encoder is what gzip's and zstd's writers have in common.
type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
	Flush() error
}

// Compress is middleware that compresses text for clients that take zstd or gzip. An App
// has it already. It leaves alone what is encoded already, ranges, small answers, upgraded
// connections and event streams: a stream may live for hours, and an encoder holds memory
// for as long.
func Compress() Middleware {
	pools := map[string]*sync.Pool{
		"gzip": {New: func() any { return gzip.NewWriter(nil) }},
		"zstd": {New: func() any {
			w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
				zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(128<<10))
			if err != nil {
				panic(err) // only a wrong option above
			}
			return w
		}},
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := chooseEncoding(r.Header.Get("Accept-Encoding"))
			if r.Method == http.MethodHead || r.Header.Get("Upgrade") != "" || r.Header.Get("Range") != "" {
				next.ServeHTTP(w, r)
				return
			}
			cw := &compressor{ResponseWriter: w, name: name, pool: pools[name]}
			defer cw.release()
			next.ServeHTTP(cw, r)
			cw.close()
		})
	}
}

// compressor holds the first bytes of an answer until it knows whether to compress it.
type compressor struct {
	http.ResponseWriter
	name    string // "" when the client takes none
	pool    *sync.Pool
	status  int
	held    []byte
	decided bool
	enc     encoder // nil: as it is
}

func (c *compressor) WriteHeader(status int) {
	switch {
	case status < 200 && status != http.StatusSwitchingProtocols:
		c.ResponseWriter.WriteHeader(status)
	case c.status == 0:
		c.status = status
		if !c.wanted() {
			c.decide(false)
		}
	}
}

// wanted reports whether the header allows compressing.
func (c *compressor) wanted() bool {
	h := c.Header()
	if c.status < 200 || c.status == http.StatusNoContent || c.status == http.StatusNotModified || c.status == http.StatusPartialContent {
		return false
	}
	if h.Get("Content-Encoding") != "" || h.Get("Content-Range") != "" || strings.Contains(h.Get("Cache-Control"), "no-transform") {
		return false
	}
	ct := h.Get("Content-Type")
	return ct == "" || compressible(ct)
}

func compressible(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil || t == "text/event-stream" {
		return false
	}
	if strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml") {
		return true
	}
	switch t {
	case "application/json", "application/javascript", "application/xml", "application/wasm", "image/bmp", "image/x-icon":
		return true
	}
	return false
}

func (c *compressor) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.decided {
		return c.out().Write(p)
	}
	size, known := strconv.Atoi(c.Header().Get("Content-Length"))
	switch {
	case known == nil && size < minCompressed:
		c.decide(false)
	case known == nil || len(c.held)+len(p) >= minCompressed:
		c.sniff(p)
		c.decide(c.wanted())
	default:
		c.held = append(c.held, p...)
		return len(p), nil
	}
	if err := c.sendHeld(); err != nil {
		return 0, err
	}
	return c.out().Write(p)
}

// sniff names the content's type, as net/http does for a handler that has not.
func (c *compressor) sniff(p []byte) {
	if h := c.Header(); h.Get("Content-Type") == "" {
		h.Set("Content-Type", http.DetectContentType(append(c.held[:len(c.held):len(c.held)], p[:min(len(p), 512)]...)))
	}
}

// decide sends the header, after which nothing can change.
func (c *compressor) decide(compress bool) {
	c.decided = true
	h := c.Header()
	if compress || compressible(h.Get("Content-Type")) {
		addVary(h, "Accept-Encoding")
	}
	if compress && c.name != "" {
		h.Set("Content-Encoding", c.name)
		h.Del("Content-Length")
		if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
			h.Set("ETag", "W/"+tag)
		}
		c.enc = c.pool.Get().(encoder)
		c.enc.Reset(c.ResponseWriter)
	}
	if c.status != 0 {
		c.ResponseWriter.WriteHeader(c.status)
	}
}

// addVary tells caches that the answer depends on a header of the request.
func addVary(h http.Header, name string) {
	if !slices.Contains(h.Values("Vary"), name) {
		h.Add("Vary", name)
	}
}

func (c *compressor) out() io.Writer {
	if c.enc != nil {
		return c.enc
	}
	return c.ResponseWriter
}

func (c *compressor) sendHeld() error {
	held := c.held
	c.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := c.out().Write(held)
	return err
}

// ReadFrom keeps the way of sending a file without copying it for what is not compressed.
func (c *compressor) ReadFrom(src io.Reader) (int64, error) {
	if c.decided && c.enc == nil {
		return io.Copy(c.ResponseWriter, src)
	}
	return io.Copy(struct{ io.Writer }{c}, src)
}

func (c *compressor) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *compressor) Flush() { c.FlushError() }

// FlushError sends all that was written so far.
func (c *compressor) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.decided {
		c.sniff(nil)
		c.decide(c.wanted())
	}
	if err := c.sendHeld(); err != nil {
		return err
	}
	if c.enc != nil {
		if err := c.enc.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

func (c *compressor) started() bool { return c.status != 0 }

// close ends the answer of a handler that returned.
func (c *compressor) close() {
	if c.status == 0 {
		return // nothing was written, or the connection was taken over
	}
	if !c.decided {
		c.sniff(nil)
		c.decide(false)
	}
	if c.sendHeld() != nil || c.enc == nil {
		return
	}
	c.enc.Close()
}

// release gives the encoder back, also when the handler panicked.
func (c *compressor) release() {
	if c.enc != nil {
		c.enc.Reset(nil)
		c.pool.Put(c.enc)
	}
}
