// Package logfile writes and reads the output of a container in Docker's json-file format.
//
// A file holds one JSON object a line: log, stream and time. A line of output longer than
// 16 KiB is split; all of its pieces but the last lack the newline at the end of "log". When
// a file is full it becomes Path.1, the one before it Path.2, and the oldest is removed.
//
// A Writer never fails and never waits for room: lines that the disk has no room for are
// counted, and the log says how many were lost as soon as it can be written again.
package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"
)

// MaxLine is where a line of output is split, as Docker does it.
const MaxLine = 16 << 10

// Limits when the caller sets none.
const (
	DefaultSize  = 10 << 20
	DefaultFiles = 3
)

// Streams of a process.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// A Writer is safe for concurrent use.
type Writer struct {
	path  string
	size  int64
	files int

	mu      sync.Mutex
	file    *os.File
	at      int64             // size of file
	open    map[string][]byte // by stream, a line whose end has not come yet
	out     []byte            // encoded lines of one Write
	pending uint64            // lost lines that the log does not tell of yet
	lost    uint64
	why     error
}

// Open opens or makes the file at path. Zero limits are the defaults.
func Open(path string, size int64, files int) (*Writer, error) {
	if size <= 0 {
		size = DefaultSize
	}
	if files <= 0 {
		files = DefaultFiles
	}
	w := &Writer{path: path, size: size, files: files, open: map[string][]byte{}}
	if err := w.reopen(); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return w, nil
}

// reopen also ends a line that a power loss cut off.
func (w *Writer) reopen() error {
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.file, w.at = f, info.Size()
	var last [1]byte
	if w.at > 0 {
		if _, err := f.ReadAt(last[:], w.at-1); err == nil && last[0] != '\n' {
			w.append([]byte{'\n'})
		}
	}
	return nil
}

// Write takes output as it comes, and writes the lines that are complete.
func (w *Writer) Write(stream string, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, lines := time.Now(), uint64(0)
	w.out = w.out[:0]
	for len(p) > 0 {
		rest, room := w.open[stream], MaxLine-len(w.open[stream])
		n := bytes.IndexByte(p[:min(len(p), room)], '\n') + 1
		if n == 0 {
			n = min(len(p), room)
		}
		if n < room && p[n-1] != '\n' {
			w.open[stream] = append(rest, p[:n]...)
			break
		}
		w.out = appendLine(w.out, Line{now, stream, rest, p[:n]})
		w.open[stream] = rest[:0]
		p, lines = p[n:], lines+1
	}
	w.flush(lines)
}

// End writes what has come of the streams' last lines.
func (w *Writer) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = w.out[:0]
	lines := uint64(0)
	for stream, rest := range w.open {
		if len(rest) > 0 {
			w.out = appendLine(w.out, Line{time.Now(), stream, rest, nil})
			lines++
		}
		delete(w.open, stream)
	}
	w.flush(lines)
}

// Lost is how many lines found no room so far.
func (w *Writer) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// Close writes what is left and closes the file.
func (w *Writer) Close() error {
	w.End()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

func (w *Writer) flush(lines uint64) {
	if lines == 0 {
		return
	}
	if w.pending > 0 {
		note := fmt.Sprintf("sampan: %d lines of output were lost here: %v\n", w.pending, w.why)
		if !w.put(appendLine(nil, Line{time.Now(), Stderr, []byte(note), nil})) {
			w.drop(lines)
			return
		}
		w.pending = 0
	}
	if !w.put(w.out) {
		w.drop(lines)
	}
	if cap(w.out) > 256<<10 { // an idle container shall not hold what a noisy moment needed
		w.out = nil
	}
}

func (w *Writer) drop(lines uint64) {
	w.pending += lines
	w.lost += lines
}

// put appends whole lines or nothing.
func (w *Writer) put(p []byte) bool {
	if w.at > 0 && w.at+int64(len(p)) > w.size {
		w.rotate()
	}
	if w.file == nil {
		if err := w.reopen(); err != nil {
			w.why = cause(err)
			return false
		}
	}
	return w.append(p)
}

func (w *Writer) append(p []byte) bool {
	n, err := w.file.Write(p)
	if err == nil {
		w.at += int64(n)
		return true
	}
	w.why = cause(err)
	if n > 0 { // half a line would make the whole line unreadable
		_ = w.file.Truncate(w.at)
	}
	return false
}

// cause is the error without the path, which is not the reader's.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// rotate moves the files along. What fails leaves the file in use, which is better than
// losing lines.
func (w *Writer) rotate() {
	if w.files == 1 {
		if w.file.Truncate(0) == nil {
			w.at = 0
		}
		return
	}
	for n := w.files - 1; n > 1; n-- {
		_ = os.Rename(w.path+"."+strconv.Itoa(n-1), w.path+"."+strconv.Itoa(n))
	}
	if os.Rename(w.path, w.path+".1") != nil {
		return
	}
	_ = w.file.Close()
	w.file, w.at = nil, 0
}
