//go:build cgo

package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sampan.dev/sampan/engine/internal/supervisor"
	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/engine/internal/supervisor/logfile"
	"sampan.dev/sampan/internal/fault"
)

const (
	pumpSize = 16 << 10
	// patience is how long a container waits for somebody attached who does not read.
	patience = 5 * time.Second
	// drainTime is how long output is awaited that a process outside the container may hold open.
	drainTime = 5 * time.Second
)

// An input is where what people type goes.
type input struct {
	mu       sync.Mutex
	file     *os.File
	terminal bool
}

// write blocks while the process does not read; closing the file ends that.
func (in *input) write(p []byte) error {
	_, err := in.file.Write(p)
	return err
}

// end tells the process that no more comes.
func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.terminal {
		_, _ = in.file.Write([]byte{4}) // a terminal ends by ^D
		return
	}
	in.file.Close()
}

func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.file.Close()
}

// openLog makes the log before anything can write to it.
func (c *container) openLog(l supervisor.Log) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log != nil || l.Path == "" {
		return nil
	}
	w, err := logfile.Open(l.Path, l.Size, l.Files)
	if err != nil {
		return err
	}
	c.log = w
	return nil
}

// endLog writes the last lines; the file is opened again when there are more.
func (c *container) endLog() {
	c.mu.Lock()
	log := c.log
	c.mu.Unlock()
	if log == nil {
		return
	}
	if err := log.Close(); err != nil {
		c.d.log.Warn("close a log", "container", c.id, "err", err)
	}
}

// openOutput opens both ends of a FIFO, the reader first.
func (c *container) openOutput(name string) (reader, writer *os.File, err error) {
	path := filepath.Join(c.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, nil, fmt.Errorf("make a FIFO: %w", err)
	}
	reader, err = openReader(path)
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		reader.Close()
		return nil, nil, fmt.Errorf("open a FIFO: %w", err)
	}
	return reader, os.NewFile(uintptr(fd), path), nil
}

func openReader(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a FIFO: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// pump brings output to the log and to all that are attached, until its end.
func (r *run) pump(from *os.File, kind wire.Kind, stream string) {
	c := r.c
	c.mu.Lock()
	log := c.log
	c.mu.Unlock()
	r.outputs = append(r.outputs, from)
	r.pumps.Go(func() {
		buf := make([]byte, pumpSize)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				if log != nil {
					log.Write(stream, buf[:n])
				}
				c.show(kind, buf[:n])
			}
			if err != nil { // io.EOF, or EIO of a terminal
				return
			}
		}
	})
}

// drain waits for the end of the output.
func (r *run) drain() {
	timer := time.AfterFunc(drainTime, func() {
		for _, f := range r.outputs {
			_ = f.SetReadDeadline(time.Now())
		}
	})
	r.pumps.Wait()
	timer.Stop()
	closeAll(r.outputs...)
}

// A sink is somebody attached.
type sink struct {
	conn *net.UnixConn
	mu   sync.Mutex
	gone chan struct{} // closed when the sink is not a container's any more
	exit *supervisor.Exit
}

// show passes a piece on to every sink; one that does not read for too long is dropped.
func (c *container) show(kind wire.Kind, p []byte) {
	c.mu.Lock()
	if len(c.sinks) == 0 {
		c.mu.Unlock()
		return
	}
	all := make([]*sink, 0, len(c.sinks))
	for s := range c.sinks {
		all = append(all, s)
	}
	c.mu.Unlock()
	for _, s := range all {
		if err := s.send(kind, p); err != nil {
			c.drop(s)
		}
	}
}

func (s *sink) send(kind wire.Kind, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return wire.Write(s.conn, kind, p)
}

// drop forgets a sink, without an exit.
func (c *container) drop(s *sink) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.sinks[s]; ok {
		delete(c.sinks, s)
		close(s.gone)
	}
}

// endSinks is called with mu held: those attached are told how the run ended.
func (c *container) endSinks(exit supervisor.Exit) {
	for s := range c.sinks {
		s.exit = &exit
		close(s.gone)
	}
	clear(c.sinks)
}

// attach connects a caller until the run ends or the caller goes.
func (c *container) attach(conn *net.UnixConn) error {
	s := &sink{conn: conn, gone: make(chan struct{})}
	c.mu.Lock()
	if c.deleted {
		c.mu.Unlock()
		return fault.NotFound("there is no container %s", c.id)
	}
	if c.status.State == supervisor.Exited {
		c.mu.Unlock()
		return fault.Conflict("container %s has ended", c.id).Try("start it again, or read its log")
	}
	if err := accept(conn, nil); err != nil { // before any output, so before the lock is free
		c.mu.Unlock()
		return nil
	}
	c.sinks[s] = struct{}{}
	c.mu.Unlock()
	reading := make(chan struct{})
	c.d.work.Go(func() {
		defer close(reading)
		c.listen(conn, s)
		c.drop(s)
	})
	<-s.gone
	if s.exit != nil {
		_ = wire.WriteJSON(conn, wire.KindExit, s.exit)
	}
	conn.Close()
	<-reading
	return nil
}

// listen takes what somebody attached types.
func (c *container) listen(conn *net.UnixConn, s *sink) {
	buf := make([]byte, pumpSize)
	for {
		kind, p, err := wire.Read(conn, buf)
		if err != nil {
			return
		}
		select {
		case <-c.ready:
		case <-s.gone:
			return
		}
		c.mu.Lock()
		r := c.run
		c.mu.Unlock()
		if r == nil || r.stdin == nil {
			continue
		}
		switch kind {
		case wire.KindStdin:
			if err := r.stdin.write(p); err != nil {
				continue // the process closed its end; that is its right
			}
		case wire.KindStdinEnd:
			r.stdin.end()
		case wire.KindResize:
			_ = resize(r.console, p)
		}
	}
}
