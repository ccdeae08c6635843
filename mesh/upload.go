package mesh

import (
	"io"
	"net/http"
	"net/http/httputil"
	"time"
)

// An upload sends a client's body to a backend while the response is being read.
type upload struct {
	done   chan struct{}
	n      int64
	err    error
	client bool // err is the client's doing
}

func (e *exchange) upload(c *conn) *upload {
	// HTTP/1: reply without reading the whole body first. An error means HTTP/2, which does so anyway.
	_ = http.NewResponseController(e.w).EnableFullDuplex()
	u := &upload{done: make(chan struct{})}
	go func() {
		defer close(u.done)
		u.run(e, c)
	}()
	return u
}

func (u *upload) run(e *exchange, c *conn) {
	client := e.client()
	defer client.done()
	buf := e.m.buffers.get()
	defer e.m.buffers.put(buf)
	var to io.Writer = c.bw
	if e.r.ContentLength < 0 {
		chunked := httputil.NewChunkedWriter(c.bw)
		to = chunked
		defer func() {
			if u.err == nil {
				chunked.Close()
				c.bw.WriteString("\r\n") // no trailer
				u.err = c.bw.Flush()
			}
		}()
	}
	for {
		n, err := client.Read(*buf)
		if n > 0 {
			u.n += int64(n)
			if _, u.err = to.Write((*buf)[:n]); u.err == nil {
				u.err = c.bw.Flush()
			}
		}
		if err == io.EOF || u.err != nil {
			return
		}
		if err != nil {
			u.err, u.client = err, true
			c.Close() // the backend must not take half a body for a whole one
			return
		}
	}
}

// finished says whether the whole body has been sent. There may be no upload at all.
func (u *upload) finished() bool {
	if u == nil {
		return true
	}
	select {
	case <-u.done:
		return u.err == nil
	default:
		return false
	}
}

// end stops the sending and waits for it. The connection to the backend must be closed.
func (u *upload) end(e *exchange) {
	if u == nil {
		return
	}
	select {
	case <-u.done:
	default:
		_ = http.NewResponseController(e.w).SetReadDeadline(longAgo())
		<-u.done
	}
	e.in = u.n
}

// A client is the body of a request; one that stops sending is given up.
type client struct {
	body io.Reader
	ctl  *http.ResponseController
	set  time.Time // when the deadline was moved
}

func (e *exchange) client() *client {
	return &client{body: e.r.Body, ctl: http.NewResponseController(e.w)}
}

func (c *client) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(c.set) > time.Second {
		c.set = now
		_ = c.ctl.SetReadDeadline(now.Add(clientStall))
	}
	return c.body.Read(b)
}

// done takes the deadline away: it would end the wait for the connection's next request.
func (c *client) done() { _ = c.ctl.SetReadDeadline(time.Time{}) }
