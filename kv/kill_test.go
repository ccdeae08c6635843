package kv_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"sampan.dev/sampan/kv"
)

// writeUntilKilled is the child: it counts upwards and says what was acknowledged.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	k, err := kv.Open(ctx, kv.Config{Dir: dir, ClientURL: os.Getenv("KV_TEST_CLIENT"), PeerURL: os.Getenv("KV_TEST_PEER")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 1; ; i++ {
		if _, err := k.Client().Put(ctx, "count", strconv.Itoa(i)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

func TestKilledWritersKeepWhatWasAcknowledged(t *testing.T) {
	cfg := config(t, filepath.Join(t.TempDir(), "kv"))
	for _, enough := range []int{1, 20, 50} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KV_TEST_WRITER="+cfg.Dir, "KV_TEST_CLIENT="+cfg.ClientURL, "KV_TEST_PEER="+cfg.PeerURL)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged, last := 0, ""
		for lines := bufio.NewScanner(out); lines.Scan(); {
			last = lines.Text()
			if n, err := strconv.Atoi(last); err == nil {
				acknowledged = n
			}
			if acknowledged == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if acknowledged < enough {
			t.Fatalf("the writer stopped by itself: %s", last)
		}
		k := open(t, cfg)
		got, err := k.Client().Get(t.Context(), "count")
		if err != nil || got.Count != 1 {
			t.Fatalf("after kill -9: %v, %v", got, err)
		}
		if n, _ := strconv.Atoi(string(got.Kvs[0].Value)); n < acknowledged {
			t.Errorf("acknowledged %d, kept %d", acknowledged, n)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
