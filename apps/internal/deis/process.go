package deis

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"sampan.dev/sampan/apps/internal/formation"
	"sampan.dev/sampan/apps/internal/logs"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/identity"
)

const (
	defaultLines = 100
	maxLines     = 10_000
	maxOutput    = 8 << 20 // of a one-off command that is not followed
)

type pod struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Release string `json:"release"`
	State   string `json:"state"`
	Started string `json:"started"`
	Number  int    `json:"number"`
	Reason  string `json:"reason,omitempty"`
	Exit    *int   `json:"exit_code,omitempty"`
}

func newPod(in formation.Instance) pod {
	p := pod{
		Name: in.Name, Type: in.Process, Release: "v" + strconv.Itoa(in.Release), State: in.State, Started: stamp(in.Started),
		Number: in.Number, Reason: in.Reason,
	}
	if in.Exit != nil {
		p.Exit = &in.Exit.Code
	}
	return p
}

// pods lists those of the release that serves, without what has crashed, as clients expect;
// all=1 lists the rest too.
func (a *API) pods(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, found, err := a.platform.Instances(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return err
	}
	f, err := a.platform.Counts(r.Context(), c)
	if err != nil {
		return err
	}
	all := r.URL.Query().Get("all") == "1"
	process, name := r.PathValue("type"), r.PathValue("name")
	pods := []pod{}
	for _, in := range found {
		shown := all || in.Release == f.Release && in.State != formation.Crashed && in.State != formation.Stopping
		if shown && (process == "" || in.Process == process) && (name == "" || in.Name == name) {
			pods = append(pods, newPod(in))
		}
	}
	return list(w, r, pods)
}

func (a *API) restart(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	_, fresh, err := a.platform.Restart(r.Context(), who, r.PathValue("app"), r.PathValue("type"), r.PathValue("name"))
	if err != nil {
		return err
	}
	pods := []pod{}
	for _, in := range fresh {
		pods = append(pods, newPod(in))
	}
	return answer(w, http.StatusOK, pods)
}

func (a *API) scale(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	counts := map[string]int{}
	if err := read(r, &counts); err != nil {
		return err
	}
	if err := a.platform.Scale(r.Context(), who, r.PathValue("app"), counts); err != nil {
		return err
	}
	return answer(w, http.StatusNoContent, nil)
}

func (a *API) logs(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	o := logs.Options{
		Tail: min(number(r, "log_lines", defaultLines), maxLines), Process: r.URL.Query().Get("process"),
		Instance: r.URL.Query().Get("instance"), Follow: slices.Contains([]string{"1", "true"}, r.URL.Query().Get("follow")),
	}
	name := r.PathValue("app")
	if o.Follow {
		if _, err := a.platform.App(r.Context(), who, identity.View, name); err != nil {
			return err
		}
		s := newStream(w)
		a.ended(r, a.platform.Logs(r.Context(), who, name, o, func(l logs.Line) error {
			_, err := io.WriteString(s, l.Format(name)+"\n")
			return err
		}))
		return nil
	}
	var text bytes.Buffer
	err := a.platform.Logs(r.Context(), who, name, o, func(l logs.Line) error {
		text.WriteString(l.Format(name) + "\n")
		return nil
	})
	switch {
	case err != nil:
		return err
	case text.Len() == 0:
		return answer(w, http.StatusNoContent, nil)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = w.Write(text.Bytes())
	return err
}

// A both takes what a command writes to its two streams, in order, up to a limit.
type both struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *both) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxOutput - b.text.Len(); room > 0 {
		b.text.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (a *API) run(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Command string }
	if err := read(r, &in); err != nil {
		return err
	}
	var out both
	exit, err := a.platform.OneOff(r.Context(), who, r.PathValue("app"), in.Command, runner.Streams{Stdout: &out, Stderr: &out})
	if err != nil {
		return err
	}
	if exit.OOM {
		fmt.Fprintln(&out, "killed: out of memory")
	}
	return answer(w, http.StatusOK, map[string]any{"exit_code": exit.Code, "output": out.text.String()})
}

func (a *API) metrics(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	samples, err := a.platform.Metrics(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return err
	}
	return list(w, r, samples)
}
