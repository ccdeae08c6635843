// Package sshd is the SSH door: it knows people by their public keys and runs their
// commands, none of which is a shell.
//
// It speaks SSH (RFC 4251 to 4254) with an Ed25519 host key that is made at the first
// start. There is one account, "git"; the key tells who it is. Of what SSH can do, only
// sessions are offered: no forwarding, no agent, no subsystems, no passwords. Of the
// environment only GIT_PROTOCOL is taken. Connections that have not signed in are few and
// short; dead ones are noticed.
package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

const (
	maxStrangers   = 64               // connections that have not signed in
	maxConnections = 1024             // all
	maxSessions    = 16               // at once on one connection
	signInTime     = 20 * time.Second // from accept to signed in
	aliveEvery     = 30 * time.Second // question; no answer until the next one ends the connection
	stopTime       = 5 * time.Second  // that running commands get when the server stops
)

// Config of a Server.
type Config struct {
	Addr string
	Key  string // file of the host key
	Log  *slog.Logger
	Who  func(ctx context.Context, key []byte) (identity.Who, error) // key in SSH wire format
	Run  func(ctx context.Context, s *Session) (exit int)            // one command
}

// A Server accepts connections.
type Server struct {
	cfg       Config
	listener  net.Listener
	key       ssh.PublicKey
	ssh       *ssh.ServerConfig
	strangers chan struct{}
	all       chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]*atomic.Int32 // how many sessions each has
	wg    sync.WaitGroup
}

// Open reads or makes the host key and binds the address.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	signer, err := hostKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("SSH host key: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fault.Conflict("the SSH door cannot open on %s: %w", cfg.Addr, err).
			Try("end the program that uses the port, or choose another with the setting ssh").On("ssh")
	}
	s := &Server{
		cfg: cfg, listener: l, key: signer.PublicKey(),
		strangers: make(chan struct{}, maxStrangers), all: make(chan struct{}, maxConnections),
		conns: map[net.Conn]*atomic.Int32{},
	}
	s.ssh = &ssh.ServerConfig{
		ServerVersion:     "SSH-2.0-Sampan",
		MaxAuthTries:      8, // an agent may offer several keys
		PublicKeyCallback: s.publicKey,
	}
	s.ssh.AddHostKey(signer)
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// HostKey is the public half of the host key.
func (s *Server) HostKey() ssh.PublicKey { return s.key }

// hostKey reads the key, or makes it the first time.
func hostKey(file string) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(file)
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup, or remove it to get a new one, which every client will warn about", file, err)
	}
	return signer, nil
}

func makeKey(file string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "sampan")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".key-") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	return text, os.Rename(tmp.Name(), file)
}

const whoKey = "who"

// publicKey is asked for each key that a client offers, also before it has proved that
// the key is its own; ssh keeps the answer for the one that it proved.
func (s *Server) publicKey(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if meta.User() != "git" {
		return nil, errors.New("the account is git")
	}
	ctx, cancel := context.WithTimeout(context.Background(), signInTime)
	defer cancel()
	who, err := s.cfg.Who(ctx, key.Marshal())
	if err != nil {
		if _, ok := fault.Of(err); !ok {
			s.cfg.Log.Error("SSH key not looked up", "err", err)
		}
		return nil, errors.New("unknown key")
	}
	return &ssh.Permissions{ExtraData: map[any]any{whoKey: who}}, nil
}

// Run serves until ctx ends, then lets running commands end for a moment.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	err := s.accept(ctx, work)
	s.listener.Close()
	s.finish()
	cancel()
	s.closeConns(func(*atomic.Int32) bool { return true })
	s.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) accept(ctx, work context.Context) error {
	for pause := 5 * time.Millisecond; ; {
		conn, err := s.listener.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			s.admit(work, conn)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, for instance: others will close theirs.
		s.cfg.Log.Error("SSH connection not accepted", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

// admit serves a connection on a goroutine of its own, or turns it away when there are
// too many.
func (s *Server) admit(ctx context.Context, conn net.Conn) {
	select {
	case s.all <- struct{}{}:
	default:
		conn.Close()
		return
	}
	select {
	case s.strangers <- struct{}{}:
	default:
		<-s.all
		conn.Close()
		return
	}
	sessions := new(atomic.Int32)
	s.mu.Lock()
	s.conns[conn] = sessions
	s.mu.Unlock()
	s.wg.Go(func() {
		defer func() {
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			<-s.all
		}()
		if err := s.serve(ctx, conn, sessions); err != nil && !errors.Is(err, io.EOF) {
			s.cfg.Log.Debug("SSH connection ended", "from", conn.RemoteAddr(), "err", err)
		}
	})
}

// finish closes connections that do nothing and gives the others a moment.
func (s *Server) finish() {
	s.closeConns(func(sessions *atomic.Int32) bool { return sessions.Load() == 0 })
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

func (s *Server) closeConns(which func(sessions *atomic.Int32) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn, sessions := range s.conns {
		if which(sessions) {
			conn.Close()
		}
	}
}

// Close releases the port.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// serve signs a connection in and runs its sessions.
func (s *Server) serve(ctx context.Context, conn net.Conn, active *atomic.Int32) error {
	conn.SetDeadline(time.Now().Add(signInTime))
	c, channels, requests, err := ssh.NewServerConn(withPromptAcks(conn), s.ssh)
	<-s.strangers
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Time{})
	who, ok := c.Permissions.ExtraData[whoKey].(identity.Who)
	if !ok {
		return errors.New("signed in as nobody")
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	defer cancel()
	wg.Go(func() { ssh.DiscardRequests(requests) })
	wg.Go(func() { s.watch(ctx, c) })
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for nc := range channels {
		if nc.ChannelType() != "session" {
			nc.Reject(ssh.UnknownChannelType, "only sessions are offered")
			continue
		}
		if active.Add(1) > maxSessions {
			active.Add(-1)
			nc.Reject(ssh.ResourceShortage, "too many sessions on one connection")
			continue
		}
		ch, reqs, err := nc.Accept()
		if err != nil {
			return err
		}
		sessions.Go(func() {
			defer active.Add(-1)
			s.session(ctx, who, ch, reqs)
		})
	}
	cancel()
	return nil
}

// watch asks the client now and then whether it is there.
func (s *Server) watch(ctx context.Context, c *ssh.ServerConn) {
	t := time.NewTicker(aliveEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		gone := time.AfterFunc(aliveEvery, func() { c.Close() })
		_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
		gone.Stop()
		if err != nil {
			return
		}
	}
}
