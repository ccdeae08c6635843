package supervisor_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"sampan.dev/sampan/engine/internal/spec"
	"sampan.dev/sampan/engine/internal/supervisor"
)

func TestAttach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("cat; echo bye >&2; exit 3", func(_ *spec.Options, r *supervisor.Request) { r.Stdin = true })
	w.must(w.Create(t.Context(), r))
	var out, errs bytes.Buffer
	wait, err := w.Attach(t.Context(), r.ID, supervisor.Streams{
		Stdin: strings.NewReader("typed before the start\n"), Stdout: &out, Stderr: &errs,
	})
	w.must(err)
	_, err = w.Start(t.Context(), r.ID)
	w.must(err)
	e, err := wait()
	if err != nil || e.Code != 3 || out.String() != "typed before the start\n" || errs.String() != "bye\n" {
		t.Errorf("got %+v, %v, %q, %q", e, err, out.String(), errs.String())
	}
	// Two streams are two pipes: what was written to both at once has no order.
	got := strings.Split(strings.TrimSuffix(w.output(r), "\n"), "\n")
	slices.Sort(got)
	if !slices.Equal(got, []string{"bye", "typed before the start"}) {
		t.Errorf("the log has %q", got)
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("echo ready; read line; stty size; echo got $line", func(o *spec.Options, r *supervisor.Request) {
		o.Terminal, r.Stdin = true, true
		o.Size = [2]uint16{80, 24}
	})
	w.must(w.Create(t.Context(), r))
	reader, writer := io.Pipe()
	typed, keys := io.Pipe()
	wait, err := w.Attach(t.Context(), r.ID, supervisor.Streams{Stdin: typed, Stdout: writer})
	w.must(err)
	_, err = w.Start(t.Context(), r.ID)
	w.must(err)
	done := make(chan string)
	go func() {
		all := new(strings.Builder)
		buf := make([]byte, 100)
		for {
			n, err := reader.Read(buf)
			all.Write(buf[:n])
			if err != nil {
				done <- all.String()
				return
			}
			if strings.Contains(all.String(), "ready") && keys != nil {
				w.must(w.Resize(t.Context(), r.ID, supervisor.Size{Columns: 100, Rows: 30}))
				io.WriteString(keys, "word\n")
				keys = nil
			}
		}
	}()
	e, err := wait()
	writer.Close()
	out := <-done
	if err != nil || e.Code != 0 || !strings.Contains(out, "30 100") || !strings.Contains(out, "got word") {
		t.Errorf("got %+v, %v, %q", e, err, out)
	}
}

func TestExecWithATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.start(w.request("sleep 1000"))
	var out bytes.Buffer
	e, err := w.Exec(t.Context(), id, supervisor.Process{
		Args: []string{"stty", "size"}, Env: []string{"PATH=/bin"}, Terminal: true, Size: supervisor.Size{Columns: 91, Rows: 17},
	}, supervisor.Streams{Stdout: &out})
	if err != nil || e.Code != 0 || strings.TrimSpace(out.String()) != "17 91" {
		t.Errorf("got %+v, %v, %q", e, err, out.String())
	}
}

// Much output arrives whole and in order, through rotated files.
func TestMuchOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("seq 1 20000", func(_ *spec.Options, r *supervisor.Request) {
		r.Log.Size, r.Log.Files = 1<<20, 5
	})
	w.wait(w.start(r))
	var want strings.Builder
	for i := 1; i <= 20000; i++ {
		fmt.Fprintln(&want, i)
	}
	if got := w.output(r); got != want.String() {
		t.Errorf("the log has %d bytes, want %d", len(got), want.Len())
	}
}

// An attached client that does not read holds nobody up for long.
func TestAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request("seq 1 500000; echo end", func(_ *spec.Options, r *supervisor.Request) { r.Log.Path = "" })
	w.must(w.Create(t.Context(), r))
	_, err := w.Attach(t.Context(), r.ID, supervisor.Streams{}) // wait is never called
	w.must(err)
	_, err = w.Start(t.Context(), r.ID)
	w.must(err)
	if e := w.wait(r.ID); e.Code != 0 {
		t.Errorf("got %+v", e)
	}
}
