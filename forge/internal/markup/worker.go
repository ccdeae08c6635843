package markup

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxCPU    = 2                // seconds for one text
	patience  = 10 * time.Second // for one text, and for a worker to be free
	idle      = 30 * time.Second // after which a worker ends
	maxMemory = 1 << 30          // of a worker: RLIMIT_DATA, bytes
	name      = "sampan-markup"  // what ps calls a worker
)

// Workers are at most as many as they were made for.
type Workers struct {
	free chan struct{}
	mu   sync.Mutex
	idle []*worker
}

// NewWorkers makes a place for n of them.
func NewWorkers(n int) *Workers { return &Workers{free: make(chan struct{}, n)} }

// ask has a worker answer.
func (w *Workers) ask(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrTooHard)
	defer cancel()
	select {
	case w.free <- struct{}{}:
		defer func() { <-w.free }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	wk, err := w.take()
	if err != nil {
		return answer{}, err
	}
	until, _ := ctx.Deadline()
	a, err := wk.ask(r, until)
	if err != nil {
		wk.kill()
		return answer{}, err
	}
	w.put(wk)
	if a.Err != "" {
		return answer{}, errors.New(a.Err)
	}
	return a, nil
}

func (w *Workers) take() (*worker, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		wk := w.idle[n-1]
		w.idle = w.idle[:n-1]
		wk.end.Stop()
		return wk, nil
	}
	return start()
}

func (w *Workers) put(wk *worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, wk)
	wk.end = time.AfterFunc(idle, func() {
		w.mu.Lock()
		i := slices.Index(w.idle, wk)
		if i >= 0 {
			w.idle = slices.Delete(w.idle, i, i+1)
		}
		w.mu.Unlock()
		if i >= 0 {
			wk.kill()
		}
	})
}

// A worker is a process that answers one request after the other.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *os.File
	enc *gob.Encoder
	dec *gob.Decoder
	end *time.Timer // while idle
}

func start() (*worker, error) {
	out, its, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a worker for markup: %w", err)
	}
	defer its.Close()
	// A program that does not call Main ends at the flag, which it does not know.
	wk := &worker{out: out, cmd: &exec.Cmd{Path: "/proc/self/exe", Args: []string{name, "-markup"}, Env: []string{"GOMAXPROCS=1"}, Dir: "/", Stdout: its}}
	if wk.in, err = wk.cmd.StdinPipe(); err == nil {
		err = wk.cmd.Start()
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("start a worker for markup: %w", err)
	}
	wk.enc, wk.dec = gob.NewEncoder(wk.in), gob.NewDecoder(out)
	return wk, nil
}

func (wk *worker) ask(r request, until time.Time) (a answer, err error) {
	if err := wk.out.SetReadDeadline(until); err != nil {
		return a, fmt.Errorf("ask a worker for markup: %w", err)
	}
	if err = wk.enc.Encode(r); err == nil {
		err = wk.dec.Decode(&a)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE):
		return a, ErrTooHard // it ended for want of time or memory
	case err != nil:
		return a, fmt.Errorf("ask a worker for markup: %w", err)
	}
	return a, nil
}

func (wk *worker) kill() {
	wk.cmd.Process.Kill()
	wk.in.Close()
	wk.out.Close()
	wk.cmd.Wait()
}

// Main is what a program that has Workers calls first. In a worker it does not return.
func Main() {
	if os.Args[0] != name {
		return
	}
	spent := make(chan os.Signal, 1)
	signal.Notify(spent, unix.SIGXCPU)
	go func() {
		<-spent
		os.Exit(1)
	}()
	err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: maxMemory, Max: maxMemory})
	if err == nil {
		err = work(os.Stdin, os.Stdout)
	}
	if !errors.Is(err, io.EOF) {
		os.Exit(1)
	}
	os.Exit(0)
}

// work answers until the other side has gone.
func work(in io.Reader, out io.Writer) error {
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var r request
		if err := dec.Decode(&r); err != nil {
			return err
		}
		if err := moreCPU(); err != nil {
			return err
		}
		if err := enc.Encode(r.do()); err != nil {
			return err
		}
	}
}

// moreCPU sets the limit of this process for the text that comes. It is the kernel's, for
// it must hold when the server has gone, and must not when the machine is slow.
func moreCPU() error {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CPU, &limit); err != nil {
		return err
	}
	limit.Cur = min(uint64(used.Utime.Sec+used.Stime.Sec)+maxCPU, limit.Max)
	return unix.Setrlimit(unix.RLIMIT_CPU, &limit)
}
