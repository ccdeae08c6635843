package mesh

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
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
	e.in, e.out = join(client, buffered.Reader, p.conn.Conn, p.conn.br)
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

// join copies both ways until both ends have finished sending, or one is broken. The readers
// hold what has been read ahead.
func join(client net.Conn, fromClient *bufio.Reader, backend net.Conn, fromBackend *bufio.Reader) (in, out int64) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		in = pour(backend, client, fromClient)
	}()
	out = pour(client, backend, fromBackend)
	<-done
	return in, out
}

// pour copies one direction, in the kernel where it can, and passes on its end. An error ends
// both directions.
func pour(to, from net.Conn, ahead *bufio.Reader) int64 {
	early, err := ahead.Peek(ahead.Buffered())
	if err == nil {
		_, err = to.Write(early)
	}
	n := int64(0)
	if err == nil {
		n, err = io.Copy(to, from)
	}
	if half, ok := to.(interface{ CloseWrite() error }); err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
	return n + int64(len(early))
}
