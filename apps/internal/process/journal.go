package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/apps/internal/runner"
)

const (
	logFile  = "log"
	oldLog   = "log.1"
	maxLog   = 4 << 20 // of each of the two
	maxLine  = 16 << 10
	readSize = 64 << 10
	punch    = 1 << 20 // raw output that has been read is freed in steps of this
)

// A journal is an instance's log: what it wrote to its two raw files, with times. The raw
// files only grow; what the journal has is freed at their beginnings, so nothing is lost
// whoever writes while nobody reads, and nothing is copied that could be missed.
type journal struct {
	dir     string
	streams [2]*rawStream

	mu         sync.Mutex
	file       *os.File
	size       int64
	generation int // counts rotations
	complete   bool
	changed    chan struct{}
}

// A rawStream is one raw file and how far it is read.
type rawStream struct {
	name    string
	read    int64 // up to here it is in the log
	punched int64
}

// An entry is a line in the log file. End is where the raw file goes on after it.
type entry struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	Text   string    `json:"text"`
	End    int64     `json:"end"`
}

// outputs makes the raw files, which the program appends to by itself.
func outputs(dir string) (stdout, stderr *os.File, err error) {
	open := func(name string) (*os.File, error) {
		return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	}
	if stdout, err = open("stdout"); err != nil {
		return nil, nil, fmt.Errorf("make output: %w", err)
	}
	if stderr, err = open("stderr"); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make output: %w", err), stdout.Close())
	}
	return stdout, stderr, nil
}

// openJournal goes on where the log ends. A line that a crash cut short is read again.
func openJournal(dir string) (*journal, error) {
	j := &journal{dir: dir, changed: make(chan struct{})}
	j.streams = [2]*rawStream{{name: "stdout"}, {name: "stderr"}}
	for _, name := range []string{oldLog, logFile} {
		size, err := j.restore(name)
		if err != nil {
			return nil, err
		}
		j.size = size
	}
	var err error
	if j.file, err = os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if err := j.file.Truncate(j.size); err != nil {
		return nil, errors.Join(fmt.Errorf("mend log: %w", err), j.file.Close())
	}
	_, err = j.file.Seek(j.size, io.SeekStart)
	return j, err
}

// restore learns from a log file how far the raw files are read, and where it is whole.
func (j *journal) restore(name string) (whole int64, err error) {
	f, err := os.Open(filepath.Join(j.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var e entry
		if err != nil || json.Unmarshal(line, &e) != nil {
			return whole, nil
		}
		whole += int64(len(line))
		for _, s := range j.streams {
			if s.name == e.Stream {
				s.read = e.End
			}
		}
	}
}

// run moves what the program writes to the log until it has ended, or ctx has.
func (j *journal) run(ctx context.Context, ended <-chan struct{}) {
	defer j.file.Close()
	wake := make(chan struct{}, 1)
	stop, err := j.notify(wake)
	if err == nil {
		defer stop()
	}
	for {
		j.pump(false)
		select {
		case <-wake:
		case <-ended:
			j.pump(true)
			j.mu.Lock()
			j.complete = true
			j.announce()
			j.mu.Unlock()
			return
		case <-ctx.Done():
			return
		}
	}
}

// notify wakes when a raw file has grown (inotify).
func (j *journal) notify(wake chan<- struct{}) (stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch output: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	for _, s := range j.streams {
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(j.dir, s.name), unix.IN_MODIFY); err != nil {
			return nil, errors.Join(fmt.Errorf("watch output: %w", err), f.Close())
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		events := make([]byte, 4096)
		for {
			if _, err := f.Read(events); err != nil {
				return
			}
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	return func() { f.Close(); <-done }, nil
}

// pump moves all whole lines there are, and with rest also what has no newline yet.
func (j *journal) pump(rest bool) {
	for _, s := range j.streams {
		f, err := os.OpenFile(filepath.Join(j.dir, s.name), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		for j.chunk(f, s, rest) {
		}
		f.Close()
	}
}

// chunk moves one piece of a raw file and reports whether there may be more.
func (j *journal) chunk(f *os.File, s *rawStream, rest bool) bool {
	buf := make([]byte, readSize)
	n, _ := f.ReadAt(buf, s.read)
	buf = buf[:n]
	now := time.Now()
	var out bytes.Buffer
	for len(buf) > 0 {
		end := bytes.IndexByte(buf, '\n') + 1
		switch {
		case end > maxLine, end == 0 && len(buf) >= maxLine:
			end = maxLine
		case end == 0 && rest && n < readSize:
			end = len(buf)
		}
		if end == 0 {
			break
		}
		s.read += int64(end)
		line, err := json.Marshal(entry{now, s.name, string(bytes.TrimRight(buf[:end], "\r\n")), s.read})
		if err == nil {
			out.Write(append(line, '\n'))
		}
		buf = buf[end:]
	}
	j.append(out.Bytes())
	if s.read-s.punched > punch {
		// Not every file system can; then the file keeps its size until it is removed.
		if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, s.read) == nil {
			s.punched = s.read
		}
	}
	return n == readSize
}

func (j *journal) append(lines []byte) {
	if len(lines) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size+int64(len(lines)) > maxLog {
		j.rotate()
	}
	n, _ := j.file.Write(lines) // with a full disk the lines are lost, not the program
	j.size += int64(n)
	j.announce()
}

// rotate begins a new log file. j.mu is held.
func (j *journal) rotate() {
	name := filepath.Join(j.dir, logFile)
	if os.Rename(name, filepath.Join(j.dir, oldLog)) != nil {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return
	}
	j.file.Close()
	j.file, j.size = f, 0
	j.generation++
}

func (j *journal) announce() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// remove ends those who follow.
func (j *journal) remove() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.complete = true
	j.announce()
}

// read calls each for the lines that o asks for.
func (j *journal) read(ctx context.Context, o runner.LogOptions, each func(runner.Line) error) error {
	c, err := j.cursor()
	if err != nil {
		return err
	}
	defer c.close()
	var kept []runner.Line
	first := true
	for {
		j.mu.Lock()
		changed, complete, generation := j.changed, j.complete, j.generation
		j.mu.Unlock()
		err := c.lines(generation, func(l runner.Line) error {
			switch {
			case l.Time.Before(o.Since), first && o.Tail < 0:
				return nil
			case first && o.Tail > 0:
				if kept = append(kept, l); len(kept) > o.Tail {
					kept = kept[1:]
				}
				return nil
			}
			return each(l)
		})
		for _, l := range kept {
			if err == nil {
				err = each(l)
			}
		}
		kept, first = nil, false
		if err != nil || complete || !o.Follow {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A cursor reads the log files one after the other.
type cursor struct {
	j          *journal
	files      []*os.File
	pending    []byte
	generation int
}

// cursor opens both files at one moment.
func (j *journal) cursor() (*cursor, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := &cursor{j: j, generation: j.generation}
	for _, name := range []string{oldLog, logFile} {
		f, err := os.Open(filepath.Join(j.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.close()
			return nil, fmt.Errorf("read log: %w", err)
		}
		c.files = append(c.files, f)
	}
	return c, nil
}

func (c *cursor) close() {
	for _, f := range c.files {
		f.Close()
	}
}

// lines reads to the end of what is there. When the log has been rotated since, the file that
// is open is whole and the next one follows.
func (c *cursor) lines(generation int, each func(runner.Line) error) error {
	if c.generation < generation {
		c.j.mu.Lock()
		f, err := os.Open(filepath.Join(c.j.dir, logFile))
		c.generation = c.j.generation
		c.j.mu.Unlock()
		if err == nil {
			c.files = append(c.files, f)
		}
	}
	for len(c.files) > 0 {
		if err := c.file(c.files[0], each); err != nil {
			return err
		}
		if len(c.files) == 1 {
			return nil
		}
		c.files[0].Close()
		c.files, c.pending = c.files[1:], nil
	}
	return nil
}

func (c *cursor) file(f *os.File, each func(runner.Line) error) error {
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	c.pending = append(c.pending, text...)
	for {
		line, after, ok := bytes.Cut(c.pending, []byte("\n"))
		if !ok {
			return nil
		}
		c.pending = after
		var e entry
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if err := each(runner.Line{Time: e.Time, Stream: e.Stream, Text: e.Text}); err != nil {
			return err
		}
	}
}
