package git

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"sampan.dev/sampan/internal/fault"
)

// A Quarantine holds the objects of a push until they are accepted: git sees them only
// with its Env, and Drop forgets them.
type Quarantine struct {
	repo    Repo
	dir     string
	empty   bool
	drained chan struct{}
}

// Quarantine prepares for the objects of one push.
func (r Repo) Quarantine() (*Quarantine, error) {
	dir, err := os.MkdirTemp(filepath.Join(r.dir, "objects"), "incoming-")
	if err != nil {
		return nil, full(fmt.Errorf("make quarantine: %w", err))
	}
	if err := os.Mkdir(filepath.Join(dir, "pack"), 0o700); err != nil {
		return nil, full(fmt.Errorf("make quarantine: %w", err))
	}
	return &Quarantine{repo: r, dir: dir, empty: true}, nil
}

// Sweep removes the quarantines that a crash left behind. No push may be under way.
func (r Repo) Sweep() {
	old, _ := filepath.Glob(filepath.Join(r.dir, "objects", "incoming-*"))
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			r.g.cfg.Log.Warn("left-over objects stay", "dir", dir, "err", err)
		}
	}
}

// Env makes git see the quarantined objects, and refuse to move refs to them.
func (q *Quarantine) Env() []string {
	return []string{
		"GIT_OBJECT_DIRECTORY=" + q.dir,
		"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + quotePath(filepath.Join(q.repo.dir, "objects")),
		"GIT_QUARANTINE_PATH=" + q.dir,
	}
}

// quotePath keeps a colon in a path from separating two.
func quotePath(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// lenient are mistakes that old tools made in histories which everybody still clones;
// they are harmless, and fsck only warns about them.
const lenient = "--strict=zeroPaddedFilemode=warn,badTimezone=warn,missingSpaceBeforeDate=warn,missingSpaceBeforeEmail=warn,missingTaggerEntry=warn,badFilemode=warn"

// Receive reads one pack, checks every object in it, and stores it. progress may be nil.
// When the pack is refused the rest of it is read and thrown away, within the limit once
// more, because a client that cannot finish its sentence does not hear the answer: see Drained.
func (q *Quarantine) Receive(ctx context.Context, pack io.Reader, limit int64, progress io.Writer) error {
	src := &limited{r: pack, left: limit, limit: limit}
	in := bufio.NewReaderSize(src, 64<<10)
	head, err := in.Peek(12)
	switch {
	case src.over.Load():
		return tooLarge(limit)
	case err != nil:
		return packFault(err)
	}
	if string(head[:4]) != "PACK" {
		return fault.Invalid("what followed the ref list is no pack").Try("update your git client and push again")
	}
	q.empty = binary.BigEndian.Uint32(head[8:]) == 0
	if err := take(ctx, q.repo.g.work); err != nil {
		return err
	}
	defer func() { <-q.repo.g.work }()
	err = q.index(ctx, in, progress)
	if src.over.Load() {
		return tooLarge(limit)
	}
	var ce *CommandError
	if errors.As(err, &ce) && ctx.Err() == nil {
		return packFault(err)
	}
	return err
}

func tooLarge(limit int64) error {
	return fault.TooLarge("the push is larger than %s, the limit of this server", size(limit)).
		Try("push fewer commits at a time, keep large files out of git, or ask an administrator to raise the limit")
}

// index runs git index-pack on a stream. Git stops reading at the pack's last byte; the
// client may keep its side open, so the copying goroutine ends with the stream, which
// belongs to the caller.
func (q *Quarantine) index(ctx context.Context, in io.Reader, progress io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, q.repo.g.cfg.Timeout)
	defer cancel()
	args := []string{"index-pack", "--stdin", "--fix-thin", lenient}
	errs := &tail{max: maxStderr}
	var stderr io.Writer = errs
	if progress != nil {
		args = append(args, "--show-resolving-progress")
		stderr = io.MultiWriter(errs, onlyProgress{progress})
	}
	cmd := q.repo.With(q.Env()).command(ctx, args)
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start git index-pack: %w", err)
	}
	q.drained = make(chan struct{})
	go func() {
		defer close(q.drained)
		_, err := io.Copy(stdin, in)
		stdin.Close()
		if err != nil {
			io.Copy(io.Discard, in)
		}
	}()
	return failure(ctx, "index-pack", cmd.Wait(), errs)
}

// Drained is closed when nothing more is read from the stream given to Receive; nil
// when nothing is being read.
func (q *Quarantine) Drained() <-chan struct{} { return q.drained }

// packFault says in one sentence why a pack is refused.
func packFault(err error) error {
	if f, ok := fault.Of(err); ok {
		return f
	}
	why := err.Error()
	var ce *CommandError
	if errors.As(err, &ce) && ce.Stderr != "" {
		lines := strings.Split(ce.Stderr, "\n")
		why = strings.TrimPrefix(lines[len(lines)-1], "fatal: ")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		why = "it ended early"
	}
	return fault.Invalid("the pack is damaged or not allowed: %s", why).Try("run `git fsck` in your copy")
}

// full turns "no space" into the fault that says so.
func full(err error) error {
	if err != nil && isFull(err) {
		return fault.Full("the server's disk is full: %w", err).Try("free some space, then push again; nothing that was accepted is lost")
	}
	return err
}

// Check makes sure that everything behind ids is here: what the push brought and what
// the repository has.
func (q *Quarantine) Check(ctx context.Context, ids []string) error {
	in := strings.NewReader(strings.Join(ids, "\n") + "\n")
	err := q.repo.With(q.Env()).run(ctx, in, io.Discard, "rev-list", "--objects", "--stdin", "--not", "--all", "--quiet")
	var ce *CommandError
	if errors.As(err, &ce) && ctx.Err() == nil {
		return fault.Invalid("the push lacks objects that its history needs").
			Try("if your copy is shallow, run `git fetch --unshallow`; else run `git fsck`")
	}
	return err
}

// Keep moves the objects into the repository, durably. The index comes last: until it is
// there, git does not see the pack.
func (q *Quarantine) Keep() error {
	if q.empty {
		return q.Drop()
	}
	from, to := filepath.Join(q.dir, "pack"), filepath.Join(q.repo.dir, "objects", "pack")
	for _, ext := range []string{".pack", ".rev", ".idx"} {
		files, err := filepath.Glob(filepath.Join(from, "pack-*"+ext))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.Rename(f, filepath.Join(to, filepath.Base(f))); err != nil {
				return full(fmt.Errorf("keep objects: %w", err))
			}
		}
	}
	if err := syncDir(to); err != nil {
		return full(fmt.Errorf("keep objects: %w", err))
	}
	return q.Drop()
}

// Drop forgets what was not kept. It may be called again.
func (q *Quarantine) Drop() error { return os.RemoveAll(q.dir) }

// limited fails once when more than the limit comes; what is read after that is to be
// thrown away, and is limited as well.
type limited struct {
	r           io.Reader
	left, limit int64
	over        atomic.Bool
}

var errOver = errors.New("the pack is over the limit")

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.limit <= 0 || l.left >= 0 {
		return n, err
	}
	if l.over.Swap(true) {
		return 0, io.EOF
	}
	l.left = l.limit
	return 0, errOver
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.4g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
}

// onlyProgress passes on progress but not errors, which are told once, in the report.
type onlyProgress struct{ w io.Writer }

func (o onlyProgress) Write(p []byte) (int, error) {
	if s := string(p); !strings.Contains(s, "fatal:") && !strings.Contains(s, "error:") {
		o.w.Write(p) // a client that is gone does not end the check of its pack
	}
	return len(p), nil
}
