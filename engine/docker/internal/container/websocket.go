package container

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"sampan.dev/sampan/engine/docker/internal/api"
)

// attachWebsocket is attach for browsers. Streams are not told from each other.
func (s *Service) attachWebsocket(w http.ResponseWriter, r *http.Request) error {
	a, err := s.attachable(r)
	if err != nil {
		return err
	}
	if !api.AtLeast(r, "1.42") {
		a.stdin, a.stdout, a.stderr = a.container.Spec.Stdin, true, true
	}
	kind := websocket.MessageBinary
	if !api.AtLeast(r, "1.28") {
		kind = websocket.MessageText
	}
	streams := a.terminal.plain(a.stdin, a.stdout, a.stderr)
	return s.connect(r.Context(), a, streams, func() (wire, error) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return nil, api.ErrStatus(http.StatusBadRequest, "%v", err)
		}
		return &socket{ctx: r.Context(), conn: conn, kind: kind}, nil
	})
}

// A socket is a WebSocket as a wire. It is closed as a whole.
type socket struct {
	ctx  context.Context // of the request, whose connection it was
	conn *websocket.Conn
	kind websocket.MessageType
	rest io.Reader // of a message
	once sync.Once
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		if s.rest == nil {
			var err error
			if _, s.rest, err = s.conn.Reader(s.ctx); err != nil {
				return 0, io.EOF // however it ended
			}
		}
		n, err := s.rest.Read(p)
		if errors.Is(err, io.EOF) {
			s.rest = nil
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *socket) Write(p []byte) (int, error) {
	if err := s.conn.Write(s.ctx, s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *socket) CloseWrite() error {
	var err error
	s.once.Do(func() { err = s.conn.Close(websocket.StatusNormalClosure, "") })
	return err
}

func (s *socket) StopReading() { _ = s.CloseWrite() }

func (s *socket) Hangup() bool {
	_, _ = io.Copy(io.Discard, s)
	return true
}

func (s *socket) Finish(others func()) {
	_ = s.CloseWrite()
	others()
	_ = s.conn.CloseNow()
}
