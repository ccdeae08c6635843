package sshd

import (
	"context"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"sampan.dev/sampan/internal/identity"
)

// A Size is the size of a terminal in characters.
type Size struct{ Columns, Rows uint32 }

// A Terminal is what the client has allocated for the session.
type Terminal struct {
	Name   string // its TERM
	Size   Size
	Resize <-chan Size // the newest size; closed with the session
}

// A Session is one command of one person.
type Session struct {
	Who      identity.Who
	Command  string // as the client sent it; "" when it asked for a shell
	Protocol string // GIT_PROTOCOL
	In       io.Reader
	Out, Err io.Writer
	Terminal *Terminal // nil: none
}

// An input cannot be closed by who reads it: the channel outlives a command's input, for the
// exit status comes last.
type input struct{ io.Reader }

// A request is the payload of a channel request that carries one string.
type text struct{ Value string }

type pair struct{ Name, Value string }

type ptyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

type windowChange struct{ Columns, Rows, Width, Height uint32 }

// setup is what a client says before its command.
type setup struct {
	protocol string
	terminal *Terminal
	resize   chan Size
}

// session takes the requests of one channel: what comes before the command sets it up,
// and the end of the requests is the end of the client.
func (s *Server) session(ctx context.Context, who identity.Who, ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	var set setup
	started := false
	for req := range reqs {
		ok := false
		switch {
		case req.Type == "window-change" && set.resize != nil:
			ok = set.resized(req.Payload)
		case started:
		case req.Type == "exec", req.Type == "shell":
			var cmd text
			if req.Type == "exec" && ssh.Unmarshal(req.Payload, &cmd) != nil {
				break
			}
			started, ok = true, true
			sess := &Session{Who: who, Command: cmd.Value, Protocol: set.protocol, Terminal: set.terminal, In: input{ch}, Out: ch, Err: ch.Stderr()}
			reply(req, true)
			running.Go(func() {
				s.run(ctx, ch, sess)
			})
			continue
		default:
			ok = set.take(req)
		}
		reply(req, ok)
	}
	cancel()
	if set.resize != nil {
		close(set.resize)
	}
}

// run runs the command and ends the channel with its exit status.
func (s *Server) run(ctx context.Context, ch ssh.Channel, sess *Session) {
	exit := s.cfg.Run(ctx, sess)
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(exit)}))
	ch.Close() // ends the requests, and with them the session
}

func reply(req *ssh.Request, ok bool) {
	if req.WantReply {
		req.Reply(ok, nil)
	}
}

// take reads a request that sets the session up; unknown ones are refused.
func (set *setup) take(req *ssh.Request) bool {
	switch req.Type {
	case "env":
		var env pair
		if ssh.Unmarshal(req.Payload, &env) != nil || env.Name != "GIT_PROTOCOL" {
			return false
		}
		set.protocol = env.Value
		return true
	case "pty-req":
		var pty ptyRequest
		if ssh.Unmarshal(req.Payload, &pty) != nil || set.resize != nil {
			return false
		}
		set.resize = make(chan Size, 1)
		set.terminal = &Terminal{Name: pty.Term, Size: Size{pty.Columns, pty.Rows}, Resize: set.resize}
		return true
	}
	return false
}

// resized keeps the newest size only: an older one that nobody read is worth nothing.
func (set *setup) resized(payload []byte) bool {
	var w windowChange
	if ssh.Unmarshal(payload, &w) != nil {
		return false
	}
	select {
	case <-set.resize:
	default:
	}
	set.resize <- Size{w.Columns, w.Rows}
	return true
}
