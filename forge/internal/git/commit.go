package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/forge/internal/wire"
)

// A Commit is one commit, its text made valid UTF-8.
type Commit struct {
	ID, Tree        string
	Parents         []string
	Author          Signer
	When            time.Time // the author's
	Committer       Signer
	Committed       time.Time
	Subject, Detail string // the first line, and the rest
}

// Short is the object name as people write it.
func (c Commit) Short() string { return c.ID[:min(len(c.ID), 8)] }

const logFormat = "%H%x00%T%x00%P%x00%an%x00%ae%x00%at%x00%cn%x00%ce%x00%ct%x00%B"

const logFields = 10

// Commit reads one commit.
func (r Repo) Commit(ctx context.Context, id string) (Commit, error) {
	list, err := r.Log(ctx, LogOptions{From: id, Limit: 1})
	if err != nil {
		return Commit{}, err
	}
	if len(list) == 0 {
		return Commit{}, fmt.Errorf("commit %s: %w", id, ErrNotFound)
	}
	return list[0], nil
}

// LogOptions choose commits.
type LogOptions struct {
	From  string // an object name
	Path  string // only commits that touch it; "" for all
	Skip  int
	Limit int
}

// Log lists commits, newest first.
func (r Repo) Log(ctx context.Context, o LogOptions) ([]Commit, error) {
	if !wire.ValidID(o.From) {
		return nil, fmt.Errorf("log from %q: %w", o.From, ErrNotFound)
	}
	args := []string{"log", "-z", "--no-show-signature", "--no-color", "--encoding=UTF-8", "--format=" + logFormat,
		"--max-count=" + strconv.Itoa(o.Limit), "--skip=" + strconv.Itoa(o.Skip), o.From, "--"}
	if o.Path != "" {
		args = append(args, o.Path)
	}
	out, err := r.output(ctx, nil, args...)
	var ce *CommandError
	if errors.As(err, &ce) && strings.Contains(ce.Stderr, "bad object") {
		return nil, fmt.Errorf("commit %s: %w", o.From, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("list commits: %w", err)
	}
	return parseLog(out), nil
}

func parseLog(out []byte) []Commit {
	f := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var list []Commit
	for ; len(f) >= logFields; f = f[logFields:] {
		subject, detail, _ := strings.Cut(strings.ToValidUTF8(f[9], "�"), "\n")
		list = append(list, Commit{
			ID: f[0], Tree: f[1], Parents: strings.Fields(f[2]),
			Author: Signer{valid(f[3]), valid(f[4])}, When: unixTime(f[5]),
			Committer: Signer{valid(f[6]), valid(f[7])}, Committed: unixTime(f[8]),
			Subject: subject, Detail: strings.Trim(detail, "\n"),
		})
	}
	return list
}

func valid(s string) string { return strings.ToValidUTF8(s, "�") }

// CountCommits counts the history of a commit, up to a bound.
func (r Repo) CountCommits(ctx context.Context, from string, bound int) (int, error) {
	if !wire.ValidID(from) {
		return 0, fmt.Errorf("count from %q: %w", from, ErrNotFound)
	}
	out, err := r.output(ctx, nil, "rev-list", "--count", "--max-count="+strconv.Itoa(bound), from)
	if err != nil {
		return 0, fmt.Errorf("count commits: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// LastCommits finds, for each entry of a directory, the newest commit that changed it.
// It reads history backwards until all are found, ctx ends or bound commits were read:
// entries may be missing from the answer, and that is no error.
func (r Repo) LastCommits(ctx context.Context, from, dir string, entries []Entry, bound int) (map[string]Commit, error) {
	if !wire.ValidID(from) {
		return nil, fmt.Errorf("log from %q: %w", from, ErrNotFound)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &lastScan{dir: dir, want: map[string]bool{}, found: map[string]Commit{}, done: func() { cancel(errCut) }}
	for _, e := range entries {
		s.want[e.Name] = true
	}
	args := []string{"log", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-color", "--encoding=UTF-8", "--root",
		"--format=%x01" + logFormat + "%x00", "--max-count=" + strconv.Itoa(bound), from, "--"}
	if dir != "" {
		args = append(args, dir)
	} else {
		args = append(args[:len(args)-1:len(args)-1], "--")
	}
	pr, pw := io.Pipe()
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.scan(pr)
		pr.CloseWithError(errCut)
	}()
	err := r.run(ctx, nil, pw, args...)
	pw.Close()
	<-read
	if err != nil && ctx.Err() == nil && !errors.Is(err, errCut) && len(s.found) == 0 {
		return nil, fmt.Errorf("find last commits: %w", err)
	}
	return s.found, nil
}

// A lastScan reads the output of git log as it comes.
type lastScan struct {
	dir   string
	want  map[string]bool
	found map[string]Commit
	done  func()
	now   Commit
}

func (s *lastScan) scan(in io.Reader) {
	fields := newFields(in)
	for {
		f, ok := fields.next()
		switch {
		case !ok:
			return
		case strings.HasPrefix(f, "\x01") || strings.HasPrefix(f, "\n\x01"):
			rest, ok := fields.take(logFields - 1)
			if !ok {
				return
			}
			head := strings.TrimLeft(f, "\n\x01") + "\x00" + strings.Join(rest, "\x00")
			if list := parseLog([]byte(head)); len(list) == 1 {
				s.now = list[0]
			}
		case strings.HasPrefix(strings.TrimLeft(f, "\n"), ":"):
			file, ok := fields.next()
			if !ok || s.see(file) {
				return
			}
		}
	}
}

// see records who changed a file, and reports whether nothing is left to find.
func (s *lastScan) see(file string) bool {
	rest := file
	if s.dir != "" {
		rest = strings.TrimPrefix(file, s.dir+"/")
	}
	name, _, _ := strings.Cut(rest, "/")
	if s.want[name] {
		delete(s.want, name)
		s.found[name] = s.now
	}
	if len(s.want) == 0 {
		s.done()
		return true
	}
	return false
}

// fields reads strings that end with NUL.
type fields struct {
	in  io.Reader
	buf []byte
	raw [32 << 10]byte
}

func newFields(in io.Reader) *fields { return &fields{in: in} }

func (f *fields) next() (string, bool) {
	for {
		if i := bytes.IndexByte(f.buf, 0); i >= 0 {
			s := string(f.buf[:i])
			f.buf = f.buf[i+1:]
			return s, true
		}
		if len(f.buf) > maxText {
			return "", false
		}
		n, err := f.in.Read(f.raw[:])
		f.buf = append(f.buf, f.raw[:n]...)
		if n == 0 && err != nil {
			return "", false
		}
	}
}

func (f *fields) take(n int) ([]string, bool) {
	list := make([]string, 0, n)
	for range n {
		s, ok := f.next()
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}
