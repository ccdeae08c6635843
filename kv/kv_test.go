package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/kv"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("KV_TEST_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// freeURL is an address that nobody listens on.
func freeURL(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func config(t testing.TB, dir string) kv.Config {
	t.Helper()
	return kv.Config{Dir: dir, ClientURL: freeURL(t), PeerURL: freeURL(t)}
}

func open(t testing.TB, cfg kv.Config) *kv.KV {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	k, err := kv.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestWritesAreReadWatchedAndKept(t *testing.T) {
	ctx := t.Context()
	cfg := config(t, filepath.Join(t.TempDir(), "kv"))
	k := open(t, cfg)
	watch := k.Client().Watch(ctx, "app/", clientv3.WithPrefix())
	if _, err := k.Client().Put(ctx, "app/hello", "web=2"); err != nil {
		t.Fatal(err)
	}
	if event := (<-watch).Events[0]; string(event.Kv.Value) != "web=2" {
		t.Errorf("watched %q", event.Kv.Value)
	}
	session, err := concurrency.NewSession(k.Client())
	if err != nil {
		t.Fatal(err)
	}
	if err := concurrency.NewElection(session, "leader").Campaign(ctx, "me"); err != nil {
		t.Fatal(err)
	}
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, cfg).Client().Get(ctx, "app/hello")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "web=2" {
		t.Errorf("after a restart: %v, %v", got, err)
	}
}

func TestTwoInOneProcess(t *testing.T) {
	a, b := open(t, config(t, t.TempDir())), open(t, config(t, t.TempDir()))
	if _, err := a.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Client().Get(t.Context(), "k"); err != nil || got.Count != 0 {
		t.Errorf("the other one has %v, %v", got, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	k := open(t, config(t, t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := "http://" + taken.Addr().String()

	for _, c := range []struct {
		about, field, says string
		config             func(*testing.T) kv.Config
	}{
		{"the client port is taken", "kv.client", busy[len("http://"):], func(t *testing.T) kv.Config {
			cfg := config(t, t.TempDir())
			cfg.ClientURL = busy
			return cfg
		}},
		{"the peer port is taken", "kv.peer", "kv.peer", func(t *testing.T) kv.Config {
			cfg := config(t, t.TempDir())
			cfg.PeerURL = busy
			return cfg
		}},
		{"an address is not this machine's", "kv.client", "address of this machine", func(t *testing.T) kv.Config {
			cfg := config(t, t.TempDir())
			cfg.ClientURL = "192.0.2.1:2379"
			return cfg
		}},
		{"an address is nonsense", "kv.client", "2379", func(t *testing.T) kv.Config {
			return kv.Config{Dir: t.TempDir(), ClientURL: "%%"}
		}},
		{"the directory holds something else", "data", "notes.txt", func(t *testing.T) kv.Config {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "notes.txt"), "hello")
			return config(t, dir)
		}},
		{"the database is not one", "data", "cannot be opened", func(t *testing.T) kv.Config {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "member", "snap", "db"), strings.Repeat("not a database ", 4096))
			return config(t, dir)
		}},
		{"the database is cut off", "data", "cut off", func(t *testing.T) kv.Config {
			cfg := used(t)
			if err := os.Truncate(filepath.Join(cfg.Dir, "member", "snap", "db"), 8192); err != nil {
				t.Fatal(err)
			}
			return cfg
		}},
		{"the log is damaged", "data", "cannot be opened", func(t *testing.T) kv.Config {
			cfg := used(t)
			logs, err := filepath.Glob(filepath.Join(cfg.Dir, "member", "wal", "*.wal"))
			if err != nil || len(logs) == 0 {
				t.Fatal(logs, err)
			}
			f, err := os.OpenFile(logs[0], os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("damage"), 100); err != nil {
				t.Fatal(err)
			}
			return cfg
		}},
		{"another process uses it", "data", "another program uses", func(t *testing.T) kv.Config {
			cfg := config(t, t.TempDir())
			open(t, cfg)
			return config(t, cfg.Dir)
		}},
	} {
		t.Run(c.about, func(t *testing.T) {
			k, err := kv.Open(t.Context(), c.config(t))
			if err == nil {
				k.Close()
				t.Fatal("opened")
			}
			f, ok := fault.Of(err)
			if !ok || f.Field != c.field || f.Hint == "" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			t.Log(err)
		})
	}
}

func TestLogsAreQuiet(t *testing.T) {
	var b bytes.Buffer
	cfg := config(t, t.TempDir())
	cfg.Log = slog.New(slog.NewTextHandler(&b, nil))
	k := open(t, cfg)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 0 {
		t.Errorf("a start and a stop logged:\n%s", b.String())
	}
}

// used is the configuration of a store that holds something and is closed.
func used(t *testing.T) kv.Config {
	t.Helper()
	cfg := config(t, t.TempDir())
	k := open(t, cfg)
	for i := range 100 {
		if _, err := k.Client().Put(t.Context(), fmt.Sprint("key", i), strings.Repeat("v", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnIdleStoreTakesNoMemoryForItsEmptyPages(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, config(t, dir)).Close(); err != nil {
		t.Fatal(err)
	}
	k := open(t, config(t, dir)) // the file has its length by now
	if _, err := k.Client().Put(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	_, mapping, ok := strings.Cut(string(text), filepath.Join(dir, "member", "snap", "db")+"\n")
	if !ok {
		t.Fatal("etcd's file is not mapped")
	}
	_, rss, _ := strings.Cut(mapping, "Rss:")
	if kb, err := strconv.Atoi(strings.Fields(rss)[0]); err != nil || kb > 1<<10 {
		t.Errorf("%d kB of etcd's file are in memory, %v", kb, err)
	}
}
