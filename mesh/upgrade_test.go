package mesh_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"sampan.dev/sampan/mesh"
)

// echo is a WebSocket that says again what it hears.
func echo(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 22)
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, text); err != nil {
				return
			}
		}
	}
}

func dialEcho(t *testing.T, m *mesh.Mesh) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws://"+m.Addr().String()+"/", &websocket.DialOptions{
		Host: "app.localhost", Subprotocols: []string{"chat"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 22)
	return c
}

func TestWebSocketsPass(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, echo(t))
	c := dialEcho(t, m)
	defer c.CloseNow()
	if c.Subprotocol() != "chat" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	for _, size := range []int{1, 100, 1 << 20} {
		text := strings.Repeat("x", size)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != text {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Error(err)
	}
}

func TestWebSocketsEndWithTheServer(t *testing.T) {
	var c *websocket.Conn
	t.Run("while it runs", func(t *testing.T) {
		m := open(t, mesh.Config{})
		app(t, m, echo(t))
		c = dialEcho(t, m)
	})
	defer c.CloseNow()
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("still open after the end of Run")
	}
}

// A raw stream, as `docker attach` uses it: what either side ends, the other still answers.
func TestOtherProtocolsPassAsStreams(t *testing.T) {
	m := open(t, mesh.Config{})
	app(t, m, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
		all, _ := io.ReadAll(rw)
		fmt.Fprintf(c, "heard %d", len(all))
	})
	c, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /attach HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "tcp" {
		t.Fatal(resp, err)
	}
	io.WriteString(c, " and late")
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(br); string(got) != "hello heard 14" {
		t.Errorf("got %q, %v", got, err)
	}
}
