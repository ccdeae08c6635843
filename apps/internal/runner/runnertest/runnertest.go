// Package runnertest holds what every Runner promises, as a test that each of them runs.
package runnertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sampan.dev/sampan/apps/internal/runner"
)

// patience is for a broken Runner: nothing here waits for time to pass.
const patience = 20 * time.Second

// A Case is one kind of Runner.
type Case struct {
	// Open opens the Runner on the same state each time, as a server does that starts again.
	Open func(t *testing.T) (r runner.Runner, closed func())
	// Artifact has a /bin/sh, and the program that Program is.
	Artifact runner.Artifact
	// Program is the command that runs Serve.
	Program []string
}

// Serve is what Program runs: an app that answers with its PORT's requests, and ends when it
// is asked to on /exit.
func Serve() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked for", r.URL.Path)
		fmt.Fprintln(os.Stderr, "warned about", r.URL.Path)
		io.WriteString(w, os.Getenv("GREETING"))
	})
	http.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		os.Exit(code)
	})
	if err := http.ListenAndServe(":"+os.Getenv("PORT"), nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// Run holds a Runner to its promises.
func Run(t *testing.T, c Case) {
	t.Run("an instance serves, logs, is seen and stops", func(t *testing.T) { c.life(t) })
	t.Run("what a build made is there, and what is gone is not", func(t *testing.T) { c.has(t) })
	t.Run("an instance that ends by itself tells its status", func(t *testing.T) { c.exit(t) })
	t.Run("an instance outlives the server and is found with its log", func(t *testing.T) { c.adopt(t) })
	t.Run("an instance that ignores the request to end is killed", func(t *testing.T) { c.stubborn(t) })
	t.Run("a one-off program has its streams and its status", func(t *testing.T) { c.oneOff(t) })
}

func (c Case) open(t *testing.T) (context.Context, runner.Runner) {
	t.Helper()
	r, closed := c.Open(t)
	t.Cleanup(closed)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx, r
}

func (c Case) spec(t *testing.T, command ...string) runner.Spec {
	name := "app-web-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	return runner.Spec{
		Name: name, App: "7", AppName: "app", Process: "web", Number: 2, Release: 3,
		Artifact: c.Artifact, Command: command, Env: []string{"GREETING=ahoy"}, Port: 5000,
	}
}

func (c Case) start(t *testing.T, ctx context.Context, r runner.Runner, command ...string) runner.Instance {
	t.Helper()
	in, err := r.Start(ctx, c.spec(t, command...))
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { r.Remove(context.WithoutCancel(ctx), in.ID) })
	return in
}

func (c Case) has(t *testing.T) {
	r, end := c.Open(t)
	defer end()
	for want, a := range map[bool]runner.Artifact{
		true: c.Artifact, false: {Image: "sampan/gone:latest", Dir: filepath.Join(t.TempDir(), "gone")},
	} {
		if here, err := r.Has(t.Context(), a); err != nil || here != want {
			t.Errorf("Has(%+v) = %v, %v", a, here, err)
		}
	}
}

// get asks until the instance answers.
func get(t *testing.T, ctx context.Context, url string) string {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			return string(body)
		}
		if ctx.Err() != nil {
			t.Fatalf("%s does not answer: %v", url, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// follow reads the log until a line holds text.
func follow(t *testing.T, ctx context.Context, r runner.Runner, id, text string) runner.Line {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var found runner.Line
	var all []string
	err := r.Logs(ctx, id, runner.LogOptions{Follow: true}, func(l runner.Line) error {
		all = append(all, l.Text)
		if strings.Contains(l.Text, text) {
			found = l
			return io.EOF
		}
		return nil
	})
	if found.Text == "" {
		t.Fatalf("no line with %q in the log, but %q (%v)", text, all, err)
	}
	return found
}

func (c Case) life(t *testing.T) {
	ctx, r := c.open(t)
	in := c.start(t, ctx, r, c.Program...)
	if got := get(t, ctx, "http://"+in.Addr+"/x"); got != "ahoy" {
		t.Errorf("answered %q, not what its environment says", got)
	}
	if l := follow(t, ctx, r, in.ID, "asked for /x"); l.Stream != "stdout" || time.Since(l.Time) > patience {
		t.Errorf("line %+v has another stream or time", l)
	}
	if l := follow(t, ctx, r, in.ID, "warned about /x"); l.Stream != "stderr" {
		t.Errorf("line %+v has another stream", l)
	}
	stats, err := r.Stats(ctx, in.ID)
	if err != nil || stats.Memory == 0 {
		t.Errorf("stats %+v, %v: a running program has memory", stats, err)
	}
	ports, err := r.Listening(ctx, in.ID)
	if err != nil || len(ports) != 1 || !strings.HasSuffix(in.Addr, fmt.Sprintf(":%d", ports[0].Port())) {
		t.Errorf("listens on %v, %v; reached at %s", ports, err, in.Addr)
	}
	if err := r.Stop(ctx, in.ID, patience); err != nil {
		t.Fatalf("stop: %v", err)
	}
	exit, err := r.Wait(ctx, in.ID)
	if err != nil || exit.Code != 143 && exit.Code != 2 {
		t.Errorf("a stopped instance ended with %+v, %v", exit, err)
	}
	follow(t, ctx, r, in.ID, "asked for /x")
	if err := r.Remove(ctx, in.ID); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if list, err := r.Instances(ctx); err != nil || len(list) != 0 {
		t.Errorf("after remove there are %v, %v", list, err)
	}
}

func (c Case) exit(t *testing.T) {
	ctx, r := c.open(t)
	in := c.start(t, ctx, r, "/bin/sh", "-c", "echo going; printf unfinished; exit 3")
	exit, err := r.Wait(ctx, in.ID)
	if err != nil || exit.Code != 3 || exit.OOM || exit.At.IsZero() {
		t.Errorf("ended with %+v, %v; want status 3", exit, err)
	}
	follow(t, ctx, r, in.ID, "unfinished")
	var last []string
	err = r.Logs(ctx, in.ID, runner.LogOptions{Tail: 1}, func(l runner.Line) error {
		last = append(last, l.Text)
		return nil
	})
	if err != nil || len(last) != 1 || last[0] != "unfinished" {
		t.Errorf("the last line is %q, %v", last, err)
	}
}

func (c Case) adopt(t *testing.T) {
	r, closed := c.Open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	in, err := r.Start(ctx, c.spec(t, c.Program...))
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	get(t, ctx, "http://"+in.Addr+"/before")
	closed()
	get(t, ctx, "http://"+in.Addr+"/while-away")

	ctx, r = c.open(t)
	list, err := r.Instances(ctx)
	if err != nil || len(list) != 1 {
		t.Fatalf("found %v, %v; want the one that runs", list, err)
	}
	got := list[0]
	if got.ID != in.ID || got.App != "7" || got.Process != "web" || got.Number != 2 || got.Release != 3 || got.Addr != in.Addr || got.Exit != nil {
		t.Errorf("found %+v, want what was started: %+v", got, in)
	}
	for _, text := range []string{"asked for /before", "asked for /while-away"} {
		follow(t, ctx, r, in.ID, text)
	}
	resp, err := http.Get("http://" + in.Addr + "/exit?code=4")
	if err == nil {
		resp.Body.Close()
	}
	exit, err := r.Wait(ctx, in.ID)
	if err != nil || exit.Code != 4 {
		t.Errorf("ended with %+v, %v; want status 4", exit, err)
	}
	if err := r.Remove(ctx, in.ID); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func (c Case) stubborn(t *testing.T) {
	ctx, r := c.open(t)
	in := c.start(t, ctx, r, "/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done")
	follow(t, ctx, r, in.ID, "deaf")
	if err := r.Stop(ctx, in.ID, 10*time.Millisecond); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if _, err := r.Wait(ctx, in.ID); err != nil {
		t.Errorf("wait: %v", err)
	}
}

func (c Case) oneOff(t *testing.T) {
	ctx, r := c.open(t)
	var out, errs bytes.Buffer
	exit, err := r.Run(ctx, c.spec(t, "/bin/sh", "-c", "read word; echo got $word; echo oops >&2; exit 5"),
		runner.Streams{Stdin: strings.NewReader("hello\n"), Stdout: &out, Stderr: &errs})
	if err != nil || exit.Code != 5 {
		t.Errorf("ended with %+v, %v; want status 5", exit, err)
	}
	if out.String() != "got hello\n" || errs.String() != "oops\n" {
		t.Errorf("wrote %q and %q", out.String(), errs.String())
	}
	out.Reset()
	exit, err = r.Run(ctx, c.spec(t, "/bin/sh", "-c", `test -t 1 && until test "$(stty size)" = "31 97"; do sleep 0.01; done; stty size`),
		runner.Streams{Stdin: strings.NewReader(""), Stdout: &out, TTY: true, Size: runner.Size{Width: 97, Height: 31}})
	if err != nil || exit.Code != 0 || !strings.Contains(out.String(), "31 97") {
		t.Errorf("at a terminal it ended with %+v, %v and wrote %q", exit, err, out.String())
	}
	if list, err := r.Instances(ctx); err != nil || len(list) != 0 {
		t.Errorf("one-off programs are listed: %v, %v", list, err)
	}
}
