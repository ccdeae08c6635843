package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const superuser = "postgres"

// watch runs PostgreSQL until its standard input ends, which is when the test process
// does, by whatever cause; then it takes the directory away.
const watch = `"$1" -D "$2" >"$2/log" 2>&1 </dev/null & pid=$!
read _
kill -INT $pid; wait $pid; rm -rf "$2"`

type server struct {
	next atomic.Int64 // names databases

	mu    sync.Mutex
	tried bool
	err   error
	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
}

// start makes a cluster that nobody can reach by network, tuned for forgetting, the first
// time it is called.
func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried {
		s.tried, s.err = true, s.launch()
	}
	return s.err
}

func (s *server) launch() error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	cred, err := unprivileged()
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "pg-"); err != nil {
		return err
	}
	if err := initialise(bin, s.dir, cred); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.run(bin, cred); err != nil {
		return err
	}
	return s.ready()
}

func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed (Debian: postgresql)")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged is another user when we are root: PostgreSQL refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(superuser)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func initialise(bin, dir string, cred *syscall.Credential) error {
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", dir, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	settings := fmt.Sprintf("listen_addresses = ''\nunix_socket_directories = '%s'\nunix_socket_permissions = 0777\n"+
		"fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nshared_buffers = 16MB\nmax_connections = 300\n", dir)
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(settings)
	return errors.Join(err, f.Close())
}

func (s *server) run(bin string, cred *syscall.Credential) error {
	s.cmd = exec.Command("/bin/sh", "-c", watch, "sh", filepath.Join(bin, "postgres"), s.dir)
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	s.stdin = stdin
	return s.cmd.Start()
}

// ready waits for the first answer: PostgreSQL offers no event for it.
func (s *server) ready() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := s.do(context.Background(), "SELECT 1")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *server) do(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s user=%s dbname=postgres", s.dir, superuser))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

func (s *server) create(ctx context.Context) (string, error) {
	name := fmt.Sprintf("t%d", s.next.Add(1))
	return name, s.do(ctx, "CREATE DATABASE "+name)
}

func (s *server) drop(ctx context.Context, name string) error {
	return s.do(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
}

func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.stdin.Close()
	s.cmd.Wait()
}
