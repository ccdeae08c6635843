package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A pool keeps `git cat-file` processes for the repositories read last: a question to a
// running one costs a fiftieth of starting one.
type pool struct {
	slots chan struct{} // one token a process in use

	mu     sync.Mutex
	idle   []*reader // the one used longest ago first
	closed bool
}

// A reader is one `git cat-file --batch-command`.
type reader struct {
	dir  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	used time.Time
}

func newPool(n int) *pool { return &pool{slots: make(chan struct{}, n)} }

// get takes an idle reader of the repository or starts one. The caller gives it back
// with put, or ends it.
func (r Repo) reader(ctx context.Context) (*reader, error) {
	p := r.g.pool
	if err := take(ctx, p.slots); err != nil {
		return nil, err
	}
	if len(r.env) == 0 {
		if rd := p.takeIdle(r.dir); rd != nil {
			return rd, nil
		}
	}
	rd, err := r.startReader()
	if err != nil {
		<-p.slots
	}
	return rd, err
}

func (p *pool) takeIdle(dir string) *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if rd := p.idle[i]; rd.dir == dir {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return rd
		}
	}
	return nil
}

func (r Repo) startReader() (*reader, error) {
	// Not bound to a request's context: the process serves many requests.
	cmd := r.command(context.Background(), []string{"cat-file", "--batch-command"})
	cmd.Cancel = nil
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start git cat-file: %w", err)
	}
	return &reader{dir: r.dir, cmd: cmd, in: in, out: bufio.NewReaderSize(out, 32<<10)}, nil
}

func (rd *reader) end() {
	rd.in.Close()
	killGroup(rd.cmd.Process)
	rd.cmd.Wait()
}

// put gives a reader back for the next request; one of a quarantine, or of which the
// conversation broke, is ended.
func (p *pool) put(rd *reader, reuse bool) {
	defer func() { <-p.slots }()
	var old *reader
	p.mu.Lock()
	if reuse && !p.closed {
		rd.used = time.Now()
		p.idle = append(p.idle, rd)
		rd = nil
		if len(p.idle) > cap(p.slots) {
			old, p.idle = p.idle[0], p.idle[1:]
		}
	}
	p.mu.Unlock()
	for _, gone := range []*reader{rd, old} {
		if gone != nil {
			gone.end()
		}
	}
}

// drop ends the idle readers that match.
func (p *pool) drop(match func(*reader) bool) {
	var gone []*reader
	p.mu.Lock()
	kept := p.idle[:0]
	for _, rd := range p.idle {
		if match(rd) {
			gone = append(gone, rd)
		} else {
			kept = append(kept, rd)
		}
	}
	p.idle = kept
	p.mu.Unlock()
	for _, rd := range gone {
		rd.end()
	}
}

func (p *pool) closeIdle(before time.Time) {
	p.drop(func(rd *reader) bool { return rd.used.Before(before) })
}

func (p *pool) forget(dir string) { p.drop(func(rd *reader) bool { return rd.dir == dir }) }

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop(func(*reader) bool { return true })
}

// ask runs one conversation with a reader. When ctx ends the process is killed, which
// ends the conversation.
func (r Repo) ask(ctx context.Context, talk func(*reader) error) error {
	rd, err := r.reader(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { killGroup(rd.cmd.Process) })
	err = talk(rd)
	alive := stop()
	reuse := alive && len(r.env) == 0 && (err == nil || errors.Is(err, ErrNotFound))
	r.g.pool.put(rd, reuse)
	if !alive {
		return fmt.Errorf("read objects: %w", context.Cause(ctx))
	}
	return err
}

// An Info is what an object is.
type Info struct {
	ID   string
	Type string // commit, tree, blob, tag
	Size int64
}

// question sends one command and reads the line that answers it.
func (rd *reader) question(command, object string) (Info, error) {
	if object == "" || strings.ContainsAny(object, "\n\x00") {
		return Info{}, fmt.Errorf("%q: %w", object, ErrNotFound)
	}
	if _, err := io.WriteString(rd.in, command+" "+object+"\n"); err != nil {
		return Info{}, fmt.Errorf("ask git cat-file: %w", err)
	}
	line, err := rd.out.ReadString('\n')
	if err != nil {
		return Info{}, fmt.Errorf("read from git cat-file: %w", err)
	}
	f := strings.Fields(line)
	if len(f) != 3 || len(f[0]) != 40 {
		return Info{}, fmt.Errorf("%q: %w", object, ErrNotFound)
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return Info{}, fmt.Errorf("git cat-file answered %q", line)
	}
	return Info{ID: f[0], Type: f[1], Size: size}, nil
}
