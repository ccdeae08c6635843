package logfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A watcher hears of changes in the directory of a log.
type watcher struct {
	file    *os.File // inotify
	changed chan struct{}
	ended   chan struct{}
}

func watch(path string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if errors.Is(err, unix.EMFILE) {
		return nil, fmt.Errorf("follow the log: too many watches; raise fs.inotify.max_user_instances: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("follow the log: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return nil, errors.Join(fmt.Errorf("follow the log: %w", err), f.Close())
	}
	w := &watcher{file: f, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.listen()
	return w, nil
}

// listen says that something changed; what, the reader finds out itself.
func (w *watcher) listen() {
	defer close(w.ended)
	buffer := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buffer); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// wait returns at the next change, or at the end of the writer.
func (w *watcher) wait(ctx context.Context, end <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.changed:
	case <-end:
	}
	return nil
}

func (w *watcher) Close() {
	w.file.Close()
	<-w.ended
}
