package web

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
)

// state is what the package knows about one request.
type state struct {
	core    *core
	request *http.Request
	id      string
	tls     bool
	out     response
	session *Session
	locale  *Locale
}

type stateKey struct{}

func stateOf(r *http.Request) *state {
	st, _ := r.Context().Value(stateKey{}).(*state)
	return st
}

// RequestID is the id of the request that ctx belongs to, or "". The answer carries it as
// X-Request-Id, and so does the log.
func RequestID(ctx context.Context) string {
	if st, ok := ctx.Value(stateKey{}).(*state); ok {
		return st.id
	}
	return ""
}

// response remembers the status and size of an answer and calls before just before its header goes out.
type response struct {
	http.ResponseWriter
	before func(http.Header)
	status int
	size   int64
}

func (w *response) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status) // informational: the answer is still to come
		return
	}
	w.start(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) start(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.before(w.Header())
}

func (w *response) Write(p []byte) (int, error) {
	w.start(http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	w.size += int64(n)
	return n, err
}

// ReadFrom keeps the connection's way of sending a file without copying it.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	w.start(http.StatusOK)
	n, err := io.Copy(w.ResponseWriter, src)
	w.size += n
	return n, err
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) Flush() { w.FlushError() }

func (w *response) FlushError() error {
	w.start(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

func (w *response) started() bool { return w.status != 0 }

// hasStarted reports whether anything of an answer was accepted by w or a writer below it.
func hasStarted(w http.ResponseWriter) bool {
	for w != nil {
		if s, ok := w.(interface{ started() bool }); ok && s.started() {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
	return false
}
