package api

import (
	"encoding/json"
	"net/http"
	"sync"
)

// A JSONStream writes one object a line, each at once. It is safe for concurrent use.
type JSONStream struct {
	w http.ResponseWriter

	mu  sync.Mutex
	enc *json.Encoder
}

// Stream begins an answer of many objects.
func Stream(w http.ResponseWriter) *JSONStream {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &JSONStream{w: w, enc: enc}
}

// Begin sends the header without waiting for the first object.
func (s *JSONStream) Begin() {
	s.w.WriteHeader(http.StatusOK)
	Flush(s.w)
}

// Send writes v.
func (s *JSONStream) Send(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enc.Encode(v); err != nil {
		return err
	}
	Flush(s.w)
	return nil
}

// Fail ends a stream of progress: with an answer of its own when nothing was sent yet, and with a
// last line otherwise, which is how clients hear of it. The handler returns what it returns.
func (s *JSONStream) Fail(err error) error {
	if err == nil || !hasBegun(s.w) {
		return err
	}
	return s.Send(map[string]any{
		"errorDetail": map[string]any{"code": Status(err), "message": err.Error()}, "error": err.Error(),
	})
}

// Flush sends what was written.
func Flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
