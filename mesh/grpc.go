package mesh

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// newHTTP2 is the transport to backends that speak gRPC: HTTP/2 without TLS, known beforehand.
func newHTTP2() *http.Transport {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:              &p,
		DisableCompression:     true,
		IdleConnTimeout:        idleConnection,
		DialContext:            (&net.Dialer{Timeout: dialWithin}).DialContext,
		MaxResponseHeaderBytes: maxReplyHeader,
	}
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// http2 sends the request over HTTP/2, with its body streaming both ways.
func (e *exchange) http2(b *backend) (again bool, err error) {
	resp, err := e.m.http2.RoundTrip(e.outgoing(b))
	if err != nil {
		var dial *net.OpError
		return e.lost(err, errors.As(err, &dial) && dial.Op == "dial")
	}
	defer resp.Body.Close()
	e.status, e.answered = resp.StatusCode, time.Now()
	h := e.w.Header()
	copyHeader(h, resp.Header)
	e.identify(h)
	e.w.WriteHeader(resp.StatusCode)
	if resp.Header["Grpc-Status"] != nil {
		return false, nil // this header is the trailer too: nothing may follow
	}
	if err := e.copyBody(resp.Body, nil); err != nil {
		e.finish(err, e.r.Context().Err() == nil, h, nil)
	}
	copyTrailer(h, resp.Trailer)
	return false, nil
}

// outgoing is the request for the backend.
func (e *exchange) outgoing(b *backend) *http.Request {
	r := e.r
	trusted := e.m.trusted.contains(r.RemoteAddr)
	h := make(http.Header, len(r.Header)+4)
	for name, values := range r.Header {
		if !hopByHop(name) && !ours(name) && (trusted || !forged(name)) {
			h[name] = values
		}
	}
	h["Te"] = []string{"trailers"}
	h[requestIDHeader] = []string{e.id}
	eachForwarded(r, trusted, func(name, value string) { h[name] = []string{value} })
	out := &http.Request{
		Method: r.Method, Host: r.Host, Header: h, Body: r.Body, ContentLength: r.ContentLength, Trailer: r.Trailer,
		URL: &url.URL{Scheme: "http", Host: b.Addr, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	if e.body != nil {
		out.Body = io.NopCloser(bytes.NewReader(e.body))
	}
	return out.WithContext(r.Context())
}
