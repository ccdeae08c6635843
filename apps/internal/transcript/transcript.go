// Package transcript keeps what builds and deploys print, for those who watch and those who
// come later.
//
// A transcript is a file that grows until it is closed. Any number of readers follow it from
// its beginning. Losing one in a power failure loses no decision, so it is not synced.
package transcript

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// maxSize bounds one transcript; what comes after it is dropped.
const maxSize = 8 << 20

// A Shelf has the transcripts in a directory. It is safe for concurrent use.
type Shelf struct {
	dir string

	mu   sync.Mutex
	open map[string]*Transcript
}

// Open makes the directory.
func Open(dir string) (*Shelf, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for transcripts: %w", err)
	}
	return &Shelf{dir: dir, open: map[string]*Transcript{}}, nil
}

func (s *Shelf) path(name string) string { return filepath.Join(s.dir, name+".log") }

// Begin opens a transcript for writing, after what it had.
func (s *Shelf) Begin(name string) (*Transcript, error) {
	f, err := os.OpenFile(s.path(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin transcript: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin transcript: %w", err), f.Close())
	}
	t := &Transcript{shelf: s, name: name, file: f, size: info.Size(), changed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[name] = t
	return t, nil
}

// Remove deletes a transcript.
func (s *Shelf) Remove(name string) error {
	err := os.Remove(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Follow copies a transcript to w until it is closed; one that is closed to its end. flush is
// called when everything that has come so far was handed over.
func (s *Shelf) Follow(ctx context.Context, name string, w io.Writer, flush func()) error {
	f, err := os.Open(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read transcript: %w", err)
	}
	defer f.Close()
	for {
		s.mu.Lock()
		t := s.open[name]
		s.mu.Unlock()
		var changed <-chan struct{}
		if t != nil {
			changed = t.wait()
		}
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		if flush != nil {
			flush()
		}
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A Transcript is being written. It is safe for concurrent use.
type Transcript struct {
	shelf *Shelf
	name  string

	mu      sync.Mutex
	file    *os.File
	size    int64
	changed chan struct{}
}

func (t *Transcript) wait() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Write appends. It never fails a build: what the disk does not take is lost.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxSize - t.size; room > 0 {
		n, _ := t.file.Write(p[:min(int64(len(p)), room)])
		t.size += int64(n)
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return len(p), nil
}

// Line writes one line.
func (t *Transcript) Line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// Close ends the transcript: those who follow it come to their end.
func (t *Transcript) Close() error {
	t.shelf.mu.Lock()
	delete(t.shelf.open, t.name)
	t.shelf.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.changed = make(chan struct{})
	return t.file.Close()
}
