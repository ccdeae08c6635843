// Package kv is the embedded etcd: what machines must agree on.
//
// One member runs inside the program, on loopback, and answers etcd's v3 API (gRPC), so that
// etcdctl and every etcd client work unmodified. Intentions live here (formations, instances,
// routes, leases, elections); records live in SQL. A write that was acknowledged has been
// synced to disk and survives kill -9 and power loss. A KV is safe for concurrent use.
package kv

import (
	"context"
	"log/slog"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Config says where the store lies and where it listens. Dir is required.
type Config struct {
	Dir       string       // the data directory, made when missing
	ClientURL string       // etcd clients are served here; default http://127.0.0.1:2379
	PeerURL   string       // etcd peers are served here; default http://127.0.0.1:2380
	Log       *slog.Logger // default: discard
}

// A KV is the running member.
type KV struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	end    *ending
	close  sync.Once
}

// Open starts the member and returns when it can be read and written. A port that is taken,
// a directory in use, and data that cannot be read are faults that name the setting.
func Open(ctx context.Context, cfg Config) (*KV, error) {
	if cfg.Log == nil {
		cfg.Log = discard()
	}
	end := newEnding()
	settings, err := settings(cfg, end)
	if err != nil {
		return nil, err
	}
	if err := inspect(cfg.Dir); err != nil {
		return nil, err
	}
	etcd, err := start(ctx, cfg, settings, end)
	if err != nil {
		return nil, err
	}
	if err := forget(cfg.Dir); err != nil { // costs memory, nothing else
		cfg.Log.Info("etcd keeps its file in memory", "err", err)
	}
	if err := reserve(cfg.Dir); err != nil {
		cfg.Log.Warn("no room could be reserved for etcd, which ends when the disk is full", "err", err)
	}
	return &KV{etcd: etcd, client: v3client.New(etcd.Server), end: end}, nil
}

// Client talks to the member in process, without a connection. It ends with the KV; do not
// close it.
func (k *KV) Client() *clientv3.Client { return k.client }

// Addr is where etcd clients of other processes reach the member.
func (k *KV) Addr() string { return k.etcd.Clients[0].Addr().String() }

// Run returns nil when ctx ends, or why the member has stopped by itself.
func (k *KV) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-k.etcd.Err():
		return stopped(err)
	case <-k.etcd.Server.StopNotify():
		return stopped(nil)
	}
}

// Close stops the member after what is in flight has been written. It is safe to call twice.
func (k *KV) Close() error {
	k.close.Do(func() {
		k.end.begin()
		_ = k.client.Close() // says only that its context has ended, which is the point
		k.etcd.Close()
	})
	return nil
}
