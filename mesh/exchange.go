package mesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// A body up to this size is read before a backend is asked: a slow sender holds no
	// connection to a backend, and the request can be sent again.
	smallBody = chunk

	clientStall = time.Minute // without progress of a client's body, or of its reading
)

// serve answers every request of both listeners.
func (m *Mesh) serve(w http.ResponseWriter, r *http.Request) {
	t := m.table.Load().find(r.Host)
	switch {
	case t.route != nil:
		m.forward(w, r, t.route)
	case t.handler != nil:
		t.handler.ServeHTTP(w, r)
	default:
		m.unknownHost(w, r)
	}
}

// An exchange is one request on its way to a backend and back.
type exchange struct {
	m     *Mesh
	w     http.ResponseWriter
	r     *http.Request
	route *route
	id    string // the request's id
	body  []byte // of a small request
	sample
}

func (m *Mesh) forward(w http.ResponseWriter, r *http.Request, rt *route) {
	e := &exchange{m: m, w: w, r: r, route: rt, id: requestID(r), sample: sample{start: time.Now()}}
	rt.stats.begin()
	defer func() { rt.stats.end(e.sample) }() // also when the exchange is aborted
	if p, bad := refused(r); bad {
		e.fail(p)
		return
	}
	if n := r.ContentLength; n > 0 && n <= smallBody {
		buf := m.buffers.get()
		defer m.buffers.put(buf)
		if !e.readBody((*buf)[:n]) {
			return
		}
	}
	e.run()
}

// run asks backends until one answers. Another one is asked only when nothing of the request
// can have reached the one before.
func (e *exchange) run() {
	var tried []*backend
	var cause error
	for {
		b := e.route.pick(tried)
		if b == nil {
			if e.refresh() {
				continue
			}
			e.fail(e.unavailable(cause))
			return
		}
		again, err := e.ask(b)
		if !again {
			return
		}
		tried, cause = append(tried, b), err
	}
}

// refresh follows the route to a newer table: between reading it and picking, all of its
// backends may have been replaced.
func (e *exchange) refresh() bool {
	now := e.m.table.Load().find(e.r.Host).route
	if now == nil || now == e.route {
		return false
	}
	e.route = now
	return true
}

// ask sends the request to one backend. again: it had nothing of it, ask another.
func (e *exchange) ask(b *backend) (again bool, err error) {
	defer b.release()
	if isGRPC(e.r) {
		return e.http2(b)
	}
	for {
		c, err := b.connect(e.r.Context(), !idempotent(e.r.Method))
		if err != nil {
			return e.lost(err, true)
		}
		p, err := e.send(c)
		if err == nil {
			e.receive(b, p)
			return false, nil
		}
		if !errors.Is(err, errNoReply) || !c.reused || !e.repeatable() {
			return e.lost(err, false)
		}
		// The backend closed an idle connection while the request was on its way.
	}
}

// lost ends an attempt that brought no response.
func (e *exchange) lost(err error, again bool) (bool, error) {
	if e.r.Context().Err() != nil {
		e.status = statusGone
		panic(http.ErrAbortHandler) // or net/http would answer 200 to whoever still listens
	}
	if again {
		return true, err
	}
	e.fail(e.broken(err))
	return false, err
}

// repeatable: RFC 9110 §9.2.2 lets a proxy repeat idempotent requests only.
func (e *exchange) repeatable() bool {
	return idempotent(e.r.Method) && (e.body != nil || !hasBody(e.r))
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func hasBody(r *http.Request) bool { return r.ContentLength != 0 && r.Body != http.NoBody }

// readBody reports false when the client did not deliver what it announced.
func (e *exchange) readBody(into []byte) bool {
	client := e.client()
	defer client.done()
	n, err := io.ReadFull(client, into)
	e.body, e.in = into, int64(n)
	if err != nil {
		e.fail(badRequest("Its body ended before it was whole.", "请求正文不完整。"))
	}
	return err == nil
}

// send writes the request and reads the header of the response. A large body is sent by a
// goroutine of its own, for a backend may answer before it has read everything.
func (e *exchange) send(c *conn) (*reply, error) {
	stop := context.AfterFunc(e.r.Context(), func() { c.SetDeadline(longAgo()) })
	p := &reply{conn: c, stop: stop}
	writeHead(c.bw, e)
	c.bw.Write(e.body)
	// When this fails the backend may have answered and closed: what it said can be read.
	failed := c.bw.Flush()
	if failed == nil && e.body == nil && hasBody(e.r) {
		p.upload = e.upload(c)
	}
	resp, err := e.response(c)
	if err != nil {
		stop()
		c.Close()
		p.upload.end(e)
		return nil, err
	}
	p.Response = resp
	return p, nil
}

// response skips interim responses; early hints are passed on.
func (e *exchange) response(c *conn) (*http.Response, error) {
	for range maxInterim {
		resp, err := c.response(e.r)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
		if resp.StatusCode == http.StatusEarlyHints {
			e.hint(resp.Header["Link"])
		}
	}
	return nil, errors.New("too many interim responses")
}

const maxInterim = 8

func (e *exchange) hint(links []string) {
	e.w.Header()["Link"] = links
	e.w.WriteHeader(http.StatusEarlyHints)
	delete(e.w.Header(), "Link")
}

// longAgo as a deadline ends what waits for a connection.
func longAgo() time.Time { return time.Unix(1, 0) }

// refused says why a request is not forwarded at all.
func refused(r *http.Request) (problem, bool) {
	if r.Method == http.MethodConnect {
		return badRequest("CONNECT is not offered here.", "这里不提供 CONNECT。"), true
	}
	// HTTP/2 allows a blank in a path; on HTTP/1.1's request line it would end the path.
	if strings.ContainsAny(r.RequestURI, " \t\r\n\x00\x7f") {
		return badRequest("Its path holds a character that must be escaped.", "路径中含有必须转义的字符。"), true
	}
	return problem{}, false
}
