package mesh

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

const requestIDHeader = "X-Request-Id"

// writeHead writes the request line and the header for the backend. Errors stay in w.
func writeHead(w *bufio.Writer, e *exchange) {
	r := e.r
	w.WriteString(r.Method)
	w.WriteByte(' ')
	if strings.HasPrefix(r.RequestURI, "/") {
		w.WriteString(r.RequestURI) // as the client escaped it
	} else {
		w.WriteString(r.URL.RequestURI()) // from the absolute form, or "*"
	}
	w.WriteString(" HTTP/1.1\r\n")
	field(w, "Host", r.Host)
	trusted := e.m.trusted.contains(r.RemoteAddr)
	listed := r.Header["Connection"]
	for name, values := range r.Header {
		if hopByHop(name) || ours(name) || named(listed, name) || (!trusted && forged(name)) {
			continue
		}
		for _, v := range values {
			field(w, name, v)
		}
	}
	eachForwarded(r, trusted, func(name, value string) { field(w, name, value) })
	field(w, requestIDHeader, e.id)
	if protocol := upgradeTo(r); protocol != "" {
		field(w, "Connection", "Upgrade")
		field(w, "Upgrade", protocol)
	}
	writeFraming(w, r)
	w.WriteString("\r\n")
}

// writeFraming says how long the body is, the one way that we then send it.
func writeFraming(w *bufio.Writer, r *http.Request) {
	switch {
	case r.ContentLength > 0:
		w.WriteString("Content-Length: ")
		w.Write(strconv.AppendInt(w.AvailableBuffer(), r.ContentLength, 10))
		w.WriteString("\r\n")
	case hasBody(r):
		field(w, "Transfer-Encoding", "chunked")
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		field(w, "Content-Length", "0")
	}
}

// eachForwarded are the fields that tell the backend whom it talks to.
func eachForwarded(r *http.Request, trusted bool, set func(name, value string)) {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		peer = r.RemoteAddr
	}
	if before := r.Header["X-Forwarded-For"]; trusted && len(before) > 0 {
		peer = strings.Join(before, ", ") + ", " + peer
	}
	set("X-Forwarded-For", peer)
	if !trusted || r.Header["X-Forwarded-Proto"] == nil {
		set("X-Forwarded-Proto", scheme(r))
	}
	if !trusted || r.Header["X-Forwarded-Host"] == nil {
		set("X-Forwarded-Host", r.Host)
	}
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func field(w *bufio.Writer, name, value string) {
	w.WriteString(name)
	w.WriteString(": ")
	w.WriteString(value)
	w.WriteString("\r\n")
}

// ours are the fields that writeHead writes itself. The expectation is met here: the body is
// asked for by reading it.
func ours(name string) bool {
	switch name {
	case "Host", "Content-Length", "X-Forwarded-For", requestIDHeader, "Expect":
		return true
	}
	return false
}

// forged are fields that backends believe because a proxy writes them. A stranger's are
// dropped, also with underscores, for CGI and WSGI read both spellings as one.
func forged(name string) bool {
	if len(name) < len("Forwarded") || (name[0] != 'X' && name[0] != 'F') {
		return false
	}
	name = strings.ReplaceAll(name, "_", "-")
	return hasPrefixFold(name, "X-Forwarded") || hasPrefixFold(name, "X-Real-Ip") || strings.EqualFold(name, "Forwarded") ||
		hasPrefixFold(name, "X-Request-Id")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// requestID is the client's own when it is harmless in a log, else a new one.
func requestID(r *http.Request) string {
	if given := r.Header[requestIDHeader]; len(given) == 1 && harmless(given[0]) {
		return given[0]
	}
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

func harmless(id string) bool {
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return len(id) > 0 && len(id) <= 64
}

// identify gives the response its request's id, unless the backend has.
func (e *exchange) identify(h http.Header) {
	if _, ok := h[requestIDHeader]; !ok {
		h[requestIDHeader] = []string{e.id}
	}
}

// prefixes are the addresses of proxies that are believed.
type prefixes []netip.Prefix

func parsePrefixes(list []string) (prefixes, error) {
	var out prefixes
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fault.Invalid("%q is not a range of addresses: %w", s, err).
				Try("write it as 10.0.0.0/8").On("trusted")
		}
		out = append(out, p)
	}
	return out, nil
}

func (p prefixes) contains(remote string) bool {
	if len(p) == 0 {
		return false
	}
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, prefix := range p {
		if prefix.Contains(addr.Addr().Unmap()) {
			return true
		}
	}
	return false
}
