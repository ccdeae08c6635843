package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"sampan.dev/sampan/internal/fault"
)

// start runs etcd and waits until it answers linearizable reads. etcd ends the process, or
// panics in a goroutine of its own, when it cannot read its data: while starting, such an end
// becomes an error here, so that the user reads a sentence instead of a stack.
func start(ctx context.Context, cfg Config, settings *embed.Config, end *ending) (*embed.Etcd, error) {
	settings.ZapLoggerBuilder = logger(cfg.Log, end)

	type started struct {
		etcd *embed.Etcd
		err  error
	}
	result := make(chan started, 1)
	go func() {
		etcd, err := embed.StartEtcd(settings)
		result <- started{etcd, err}
	}()
	var etcd *embed.Etcd
	select {
	case r := <-result:
		if r.err != nil {
			return nil, explain(r.err, cfg)
		}
		etcd = r.etcd
	case why := <-end.said:
		return nil, unreadable(cfg.Dir, errors.New(why))
	}

	ctx, cancel := context.WithTimeoutCause(ctx, leaderWithin, errNoLeader)
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
		end.phase.Store(running)
		return etcd, nil
	case why := <-end.said:
		return nil, unreadable(cfg.Dir, errors.New(why))
	case err := <-etcd.Err():
		etcd.Close()
		return nil, explain(err, cfg)
	case <-ctx.Done():
		etcd.Close()
		return nil, unreadable(cfg.Dir, context.Cause(ctx))
	}
}

// leaderWithin is a hundred times what a member that is alone needs on a slow disk.
const leaderWithin = 30 * time.Second

var errNoLeader = errors.New("it has no leader; it may belong to a cluster of several machines")

// explain turns what StartEtcd returns into what the user can do about it.
func explain(err error, cfg Config) error {
	var listen *net.OpError
	if !errors.As(err, &listen) || listen.Op != "listen" {
		return unreadable(cfg.Dir, err)
	}
	setting, given := "kv.client", cfg.ClientURL
	if peer, parse := listenURL(cfg.PeerURL, defaultPeerURL, "kv.peer"); parse == nil && listen.Addr.String() == peer.Host {
		setting, given = "kv.peer", cfg.PeerURL
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fault.Conflict("another program listens on %s already", listen.Addr).
			Try("stop it (another etcd?) or set %s to a free port", setting).On(setting)
	}
	return fault.Invalid("cannot listen on %s: %w", given, listen.Err).
		Try("set %s to an address of this machine, such as 127.0.0.1:2379", setting).On(setting)
}

// unreadable says that the data cannot be used, and what to do about it.
func unreadable(dir string, err error) error {
	return fault.Conflict("the key-value store in %s cannot be opened: %w", dir, err).
		Try("restore a backup with `sampan restore`, or move that directory away to start with an empty one").On("data")
}

// stopped says why Run ends although nobody asked for it.
func stopped(err error) error {
	if err == nil {
		err = errors.New("its member was stopped or removed")
	}
	return fmt.Errorf("the key-value store has stopped: %w", err)
}

// discard is the logger of a zero Config.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
