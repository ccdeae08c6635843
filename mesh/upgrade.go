package mesh

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

// upgradeTo is the protocol that a client asks to switch to: websocket, or any other that is
// not HTTP itself, for that would carry requests past this door.
func upgradeTo(r *http.Request) string {
	given := r.Header["Upgrade"]
	if r.ProtoMajor != 1 || len(given) != 1 || !named(r.Header["Connection"], "Upgrade") {
		return ""
	}
	protocol := given[0]
	if hasPrefixFold(protocol, "h2") || hasPrefixFold(protocol, "http") || hasPrefixFold(protocol, "tls") || strings.Contains(protocol, ",") {
		return ""
	}
	return protocol
}

// upgrade joins the two connections after the backend has switched protocols.
func (e *exchange) upgrade(p *reply) {
	defer p.conn.Close()
	defer p.stop()
	asked := upgradeTo(e.r)
	if got := p.Header.Get("Upgrade"); asked == "" || !strings.EqualFold(got, asked) {
		e.fail(e.broken(errUpgrade{asked, got}))
		return
	}
	client, buffered, err := http.NewResponseController(e.w).Hijack()
	if err != nil {
		e.fail(e.broken(err))
		return
	}
	defer client.Close()
	// The context ends with the server; nothing else watches over a hijacked connection.
	stop := context.AfterFunc(e.r.Context(), func() { client.Close(); p.conn.Close() })
	defer stop()
	writeSwitch(buffered.Writer, p.Header)
	if buffered.Flush() != nil {
		return
	}
	join(client, buffered.Reader, p.conn, &e.sample)
}

type errUpgrade struct{ asked, got string }

func (e errUpgrade) Error() string {
	return "asked to switch to " + quote(e.asked) + ", switched to " + quote(e.got)
}

func quote(s string) string { return `"` + s + `"` }

func writeSwitch(w *bufio.Writer, h http.Header) {
	w.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	field(w, "Connection", "Upgrade")
	field(w, "Upgrade", h.Get("Upgrade"))
	for name, values := range h {
		if hopByHop(name) {
			continue
		}
		for _, v := range values {
			field(w, name, v)
		}
	}
	w.WriteString("\r\n")
}

// join copies both ways until both ends have finished sending, or one is broken.
func join(client net.Conn, fromClient io.Reader, c *conn, count *sample) {
	var up atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		n, err := io.Copy(c.Conn, fromClient)
		up.Store(n)
		halfClose(c.Conn, err)
	}()
	n, err := io.Copy(client, c.br)
	halfClose(client, err)
	if err != nil {
		c.Close()
	}
	<-done
	count.in, count.out = up.Load(), n
}

// halfClose passes on the end of one direction; an error ends both.
func halfClose(to net.Conn, err error) {
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	to.Close()
}
