package mesh

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// statusGone counts requests whose client left before the response, as nginx does.
const statusGone = 499

// A reply is a response whose header has been read.
type reply struct {
	*http.Response
	conn   *conn
	upload *upload
	stop   func() bool // forgets the client's context; false: the client has left
}

// receive passes the response on and, when it was whole, keeps the connection.
func (e *exchange) receive(b *backend, p *reply) {
	e.status, e.answered = p.StatusCode, time.Now()
	if p.StatusCode == http.StatusSwitchingProtocols {
		e.upgrade(p)
		return
	}
	h := e.w.Header()
	copyHeader(h, p.Header)
	e.identify(h)
	if !p.upload.finished() && e.r.ProtoMajor == 1 {
		h["Connection"] = []string{"close"} // what is left of the body is nobody's request
	}
	e.w.WriteHeader(p.StatusCode)
	if len(p.Trailer) > 0 {
		_ = http.NewResponseController(e.w).Flush() // or the body gets a length, and no trailer
	}
	err := e.copyBody(p.Body, p.conn)
	there := p.stop()
	whole := err == nil && p.upload.finished()
	if there && whole && !p.Close && p.conn.br.Buffered() == 0 {
		if p.upload != nil {
			e.in = p.upload.n
		}
		copyTrailer(h, p.Trailer)
		b.keep(p.conn)
		return
	}
	p.conn.Close()
	p.upload.end(e)
	e.finish(err, there, h, p.Trailer)
}

// finish ends a response whose connection is not kept.
func (e *exchange) finish(err error, there bool, h, trailer http.Header) {
	switch {
	case err == nil:
		copyTrailer(h, trailer)
	case err == errClient || !there:
		e.status = statusGone
		panic(http.ErrAbortHandler)
	default:
		e.status = 0
		e.m.log.Debug("a backend broke off its response", "route", e.route.Name, "error", err)
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
}

// errClient is the error of a response that its client does not read.
var errClient = io.ErrClosedPipe

// copyBody streams: before it would wait for the backend it sends what it has. Without a
// connection to look at it sends at once.
func (e *exchange) copyBody(body io.Reader, c *conn) error {
	if body == http.NoBody {
		return nil
	}
	buf := e.m.buffers.get()
	defer e.m.buffers.put(buf)
	ctl := http.NewResponseController(e.w)
	var deadline time.Time
	defer func() {
		if !deadline.IsZero() {
			_ = ctl.SetWriteDeadline(time.Time{})
		}
	}()
	for first := true; ; first = false {
		if c == nil || c.br.Buffered() == 0 {
			if err := ctl.Flush(); err != nil {
				return errClient
			}
		}
		n, err := body.Read(*buf)
		if !first && time.Since(deadline) > -clientStall/2 {
			deadline = time.Now().Add(clientStall)
			_ = ctl.SetWriteDeadline(deadline)
		}
		if n > 0 {
			written, err := e.w.Write((*buf)[:n])
			e.out += int64(written)
			if err != nil {
				return errClient
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyHeader leaves out what was meant for this hop only.
func copyHeader(to, from http.Header) {
	listed := from["Connection"]
	for name, values := range from {
		if !hopByHop(name) && !named(listed, name) {
			to[name] = values
		}
	}
	if _, ok := from["Content-Type"]; !ok {
		to["Content-Type"] = nil // do not guess what the backend left open
	}
}

// copyTrailer sends a trailer without announcing it, as RFC 9110 §6.6.2 allows.
func copyTrailer(to, from http.Header) {
	for name, values := range from {
		to[http.TrailerPrefix+name] = values
	}
}

// hopByHop are the fields of RFC 9110 §7.6.1 and those that net/http writes itself.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Http2-Settings":
		return true
	}
	return false
}

// named says whether a Connection header names the field as one for this hop.
func named(connection []string, name string) bool {
	for _, list := range connection {
		for token := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(token), name) {
				return true
			}
		}
	}
	return false
}
