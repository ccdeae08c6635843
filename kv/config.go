package kv

import (
	"net/url"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"sampan.dev/sampan/internal/fault"
)

const (
	defaultClientURL = "http://127.0.0.1:2379"
	defaultPeerURL   = "http://127.0.0.1:2380"
	member           = "sampan"

	// A machine alone waits for nobody: it may elect itself at once, so that the first read
	// after a start takes tens of milliseconds instead of one second.
	heartbeat = 10  // milliseconds
	election  = 100 // milliseconds

	// Entries stay in memory until a snapshot replaces them and until slow followers have
	// had them. There are none, and our values are small: keep little.
	entriesPerSnapshot = 5000
	entriesForCatchUp  = 500

	quota      = 1 << 30 // bytes on disk before writes are refused
	historyFor = "10m"   // a watcher that was away for longer lists again
)

// settings are etcd's, for one member that is alone.
func settings(cfg Config, end *ending) (*embed.Config, error) {
	if cfg.Dir == "" {
		return nil, fault.Invalid("the key-value store has no data directory").On("data")
	}
	client, err := listenURL(cfg.ClientURL, defaultClientURL, "kv.client")
	if err != nil {
		return nil, err
	}
	peer, err := listenURL(cfg.PeerURL, defaultPeerURL, "kv.peer")
	if err != nil {
		return nil, err
	}
	e := embed.NewConfig()
	e.Name = member
	e.Dir = filepath.Clean(cfg.Dir)
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	e.InitialCluster = e.InitialClusterFromName(member)
	e.InitialClusterToken = member
	e.TickMs, e.ElectionMs = heartbeat, election
	e.SnapshotCount, e.SnapshotCatchUpEntries = entriesPerSnapshot, entriesForCatchUp
	e.QuotaBackendBytes = quota
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModePeriodic, historyFor
	e.EnableGRPCGateway = false
	e.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(end.streams)}
	return e, nil
}

// listenURL reads HOST:PORT or http://HOST:PORT.
func listenURL(given, otherwise, setting string) (url.URL, error) {
	if given == "" {
		given = otherwise
	}
	if !strings.Contains(given, "://") {
		given = "http://" + given
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || (u.Path != "" && u.Path != "/") {
		return url.URL{}, fault.Invalid("%q is not an address for etcd", given).
			Try("write %s as 127.0.0.1:2379", setting).On(setting)
	}
	u.Path = ""
	return *u, nil
}
