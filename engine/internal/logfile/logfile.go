// Package logfile reads the output of a container in Docker's json-file format: one JSON
// object a line, in a file that is rotated to FILE.1, FILE.2 and so on while it is read.
//
// A reader that follows sees every line once and in order, as long as it reads a file before
// the writer has rotated it out of existence. It waits for the kernel to tell of changes.
package logfile

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
	"strconv"
	"time"
)

// A Line of output. Text keeps its newline; without one it goes on in the next Line of the
// same stream.
type Line struct {
	Time   time.Time
	Stream string
	Text   string
}

// Options choose lines.
type Options struct {
	Follow <-chan struct{} // nil: stop at the end; otherwise go on until it is closed
	Tail   int             // the last n lines; zero: all; negative: none of the old ones
	Since  time.Time
	Until  time.Time
}

// A File is a log and its rotated predecessors.
type File struct {
	Path  string
	Files int // how many there are at most
}

// Read calls fn for each line. A line that is no JSON, as a power loss leaves them, is skipped.
func (f File) Read(ctx context.Context, o Options, fn func(Line) error) error {
	var w *watcher
	if o.Follow != nil {
		var err error
		if w, err = watch(f.Path); err != nil { // before the first read, so that no change is missed
			return err
		}
		defer w.Close()
	}
	r := &reader{file: f, options: o, fn: fn}
	defer r.close()
	if err := r.seek(); err != nil {
		return err
	}
	for {
		// Whether the writer has ended is asked before reading: what it wrote is then all there.
		ended := o.Follow == nil || closed(o.Follow)
		if err := r.drain(ctx); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
		if ended {
			return nil
		}
		if err := w.wait(ctx, o.Follow); err != nil {
			return err
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

var errEnough = errors.New("the lines asked for have been read")

// A reader is a place in a row of files.
type reader struct {
	file    File
	options Options
	fn      func(Line) error

	now    *os.File // nil: before the first file
	buffer *bufio.Reader
	part   []byte // a line whose end is not written yet
}

func (r *reader) close() {
	if r.now != nil {
		r.now.Close()
	}
}

func (f File) name(i int) string {
	if i == 0 {
		return f.Path
	}
	return f.Path + "." + strconv.Itoa(i)
}

// seek opens the file that the reading begins in, at the right line.
func (r *reader) seek() error {
	if r.options.Tail == 0 {
		return r.oldest()
	}
	left := r.options.Tail
	for i := range max(r.file.Files, 1) {
		f, err := os.Open(r.file.name(i))
		if errors.Is(err, fs.ErrNotExist) {
			if i == 0 {
				return nil
			}
			return r.oldest()
		}
		if err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
		at, found, err := tail(f, max(left, 0))
		if err == nil {
			_, err = f.Seek(at, io.SeekStart)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read the log %s: %w", f.Name(), err), f.Close())
		}
		if left -= found; left <= 0 {
			r.use(f)
			return nil
		}
		f.Close()
	}
	return r.oldest()
}

func (r *reader) use(f *os.File) {
	r.close()
	r.now, r.part = f, nil
	if r.buffer == nil {
		r.buffer = bufio.NewReaderSize(f, 32<<10)
		return
	}
	r.buffer.Reset(f)
}

// oldest opens the first file that is there, if any is.
func (r *reader) oldest() error {
	for i := max(r.file.Files, 1) - 1; i >= 0; i-- {
		f, err := os.Open(r.file.name(i))
		if err == nil {
			r.use(f)
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open the log: %w", err)
		}
	}
	return nil
}

// drain reads all that is there, file by file.
func (r *reader) drain(ctx context.Context) error {
	if r.now == nil {
		if err := r.oldest(); err != nil || r.now == nil {
			return err
		}
	}
	for {
		if err := r.lines(ctx); err != nil {
			return err
		}
		next, err := r.next()
		if err != nil || next == nil {
			return err
		}
		// The writer left this file before it began the next one: now its end is final.
		if err := r.lines(ctx); err != nil {
			return errors.Join(err, next.Close())
		}
		r.use(next)
	}
}

// next opens the file after this one, or returns nil when this one is the newest.
func (r *reader) next() (*os.File, error) {
	here, err := r.now.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the log: %w", err)
	}
	// From the newest to the oldest, so that a rotation meanwhile shows a file twice, not never.
	for i := range max(r.file.Files, 1) {
		f, err := os.Open(r.file.name(i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		there, err := f.Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("look at the log: %w", err), f.Close())
		}
		f.Close()
		if os.SameFile(here, there) {
			return r.newer(i, here)
		}
	}
	// This file is gone: the writer was faster by a whole row of files.
	return r.reopen(max(r.file.Files, 1) - 1)
}

// newer opens the file that follows the i-th, which is here.
func (r *reader) newer(i int, here fs.FileInfo) (*os.File, error) {
	if i == 0 {
		return nil, nil
	}
	f, err := os.Open(r.file.name(i - 1))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // between two steps of a rotation; the change of the second is waited for
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	// A rotation moves the oldest file first. So if this one is still where it was seen, the
	// one that was opened meanwhile is the next; otherwise files have moved: look again.
	if still, err := os.Stat(r.file.name(i)); err != nil || !os.SameFile(here, still) {
		f.Close()
		return r.next()
	}
	return f, nil
}

func (r *reader) reopen(from int) (*os.File, error) {
	for i := from; i >= 0; i-- {
		f, err := os.Open(r.file.name(i))
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open the log: %w", err)
		}
	}
	return nil, nil
}

// maxLine is far beyond what a writer of 16 KiB pieces makes; longer ones are no log.
const maxLine = 1 << 20

func (r *reader) lines(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, err := r.buffer.ReadSlice('\n')
		r.part = append(r.part, raw...)
		if len(r.part) > maxLine {
			r.part = r.part[:0]
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the log: %w", err)
		}
		line, ok := Parse(r.part)
		r.part = r.part[:0]
		if !ok || line.Time.Before(r.options.Since) {
			continue
		}
		if !r.options.Until.IsZero() && line.Time.After(r.options.Until) {
			return errEnough
		}
		if err := r.fn(line); err != nil {
			return err
		}
	}
}

// Parse reads one line of a file.
func Parse(raw []byte) (Line, bool) {
	var j struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal(raw, &j); err != nil {
		return Line{}, false
	}
	return Line{Time: j.Time, Stream: j.Stream, Text: j.Log}, true
}

// tail finds where the last n lines of f begin, and how many of them f has.
func tail(f *os.File, n int) (at int64, found int, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	block := make([]byte, 32<<10)
	end := info.Size()
	if n == 0 {
		return end, 0, nil
	}
	// The newline at the very end closes the last line and begins none.
	for before := end; before > 0; {
		size := min(int64(len(block)), before)
		before -= size
		if _, err := f.ReadAt(block[:size], before); err != nil {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(block[:size], '\n'); i >= 0; i = bytes.LastIndexByte(block[:i], '\n') {
			if before+int64(i)+1 == end {
				continue
			}
			if found++; found == n {
				return before + int64(i) + 1, found, nil
			}
		}
	}
	if end > 0 {
		found++
	}
	return 0, found, nil
}
