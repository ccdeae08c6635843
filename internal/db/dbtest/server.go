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

// watch makes a cluster for forgetting in $2, without any network, with the programs of $1,
// and runs it until its standard input ends, which is when the test process does, by
// whatever cause; then it takes the directory away.
const watch = `
trap 'rm -rf "$2"' EXIT
"$1/initdb" -D "$2/data" -U ` + superuser + ` -A trust -E UTF8 --locale=C --no-sync --no-instructions >"$2/log" 2>&1 </dev/null ||
	{ cat "$2/log" >&2; exit 1; }
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c unix_socket_permissions=0777 -c fsync=off -c full_page_writes=off \
	-c synchronous_commit=off -c shared_buffers=16MB -c max_connections=300 >"$2/log" 2>&1 </dev/null & pid=$!
exec 2>/dev/null # nobody may be left to read what the shell says
read _
kill -TERM $pid # ends one that is just starting; others would wait for their clients
kill -INT $pid
wait $pid`

type server struct {
	next atomic.Int64 // names databases

	mu    sync.Mutex
	tried bool
	err   error
	dir   string
	stdin io.Closer
	said  bytes.Buffer  // complete when ended
	ended chan struct{} // closed when the server is gone
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
	if err := s.run(bin, cred); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
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

func (s *server) run(bin string, cred *syscall.Credential) error {
	cmd := exec.Command("/bin/sh", "-c", watch, "sh", bin, s.dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	cmd.Stderr = &s.said
	if cred != nil {
		if err := os.Chown(s.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.stdin, s.ended = stdin, make(chan struct{})
	go func() {
		defer close(s.ended)
		cmd.Wait() // how it ended does not matter: stop ends it by a signal
	}()
	return nil
}

// ready waits for the first answer: PostgreSQL offers no event for it.
func (s *server) ready() error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	for {
		err := s.do(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("PostgreSQL does not start: %s", bytes.TrimSpace(s.said.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
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
	if s.stdin == nil {
		return
	}
	s.stdin.Close()
	<-s.ended
}
