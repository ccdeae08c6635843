package kv_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sampan.dev/sampan/kv"
)

// ctl runs an unmodified etcdctl against the store.
type ctl struct {
	t        *testing.T
	endpoint string
}

func (c ctl) command(args ...string) *exec.Cmd {
	cmd := exec.Command("etcdctl", append([]string{"--endpoints", c.endpoint}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	return cmd
}

func (c ctl) run(stdin string, args ...string) string {
	c.t.Helper()
	cmd := c.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestEtcdctl(t *testing.T) {
	if _, err := exec.LookPath("etcdctl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("etcdctl is missing: install the package etcd-client")
		}
		t.Skip("etcdctl is not installed (package etcd-client)")
	}
	cfg := config(t, filepath.Join(t.TempDir(), "kv"))
	open(t, cfg)
	c := ctl{t, cfg.ClientURL}

	for _, step := range []struct {
		about, stdin, args, want string
	}{
		{"a value is put", "", "put greeting hello", "OK"},
		{"and got", "", "get greeting --print-value-only", "hello"},
		{"a transaction compares and acts", "value(\"greeting\") = \"hello\"\n\nput greeting goodbye\n\nput greeting wrong\n\n", "txn", "SUCCESS\n\nOK"},
		{"what it did is seen", "", "get greeting --print-value-only", "goodbye"},
		{"the member is healthy", "", "endpoint health", "is healthy"},
		{"there is one member", "", "member list", "started, sampan"},
		{"a key is deleted", "", "del greeting", "1"},
	} {
		if got := c.run(step.stdin, strings.Fields(step.args)...); !strings.Contains(got, step.want) {
			t.Errorf("%s: got %q, want %q", step.about, got, step.want)
		}
	}
	t.Run("a lease takes its keys along", c.leases)
	t.Run("a watch sees the past and the present", c.watches)
	t.Run("a snapshot is whole", c.snapshots)
}

func (c ctl) leases(t *testing.T) {
	c.t = t
	id := strings.Fields(c.run("", "lease", "grant", "60"))[1] // lease ID granted with …
	c.run("", "put", "--lease", id, "session", "here")
	c.run("", "lease", "revoke", id)
	if got := c.run("", "get", "session"); got != "" {
		t.Errorf("after the lease: %q", got)
	}
}

func (c ctl) watches(t *testing.T) {
	c.t = t
	c.run("", "put", "news", "old")
	cmd := c.command("watch", "--rev", "1", "news")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"PUT", "news", "old"} {
		if lines.Scan(); lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	c.run("", "put", "news", "new")
	for _, want := range []string{"PUT", "news", "new"} {
		if lines.Scan(); lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}

func (c ctl) snapshots(t *testing.T) {
	c.t = t
	c.run("", "put", "kept", "yes")
	file := filepath.Join(t.TempDir(), "snapshot.db")
	c.run("", "snapshot", "save", file)
	if got := c.run("", "snapshot", "status", file); got == "" {
		t.Error("the snapshot's status is empty")
	}
	cfg := config(t, filepath.Join(t.TempDir(), "restored"))
	if err := kv.Restore(cfg, file); err != nil {
		t.Fatal(err)
	}
	k := open(t, cfg)
	got, err := k.Client().Get(t.Context(), "kept")
	if err != nil || got.Count != 1 {
		t.Errorf("restored %v, %v", got, err)
	}
}
