package page

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/logs"
	"sampan.dev/sampan/apps/internal/meter"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/internal/ui"
	"sampan.dev/sampan/web"
)

const (
	shownLines = 200
	plotStep   = meter.Step
)

func row(l logs.Line) ui.LogLine {
	stream, text := l.Stream, l.Text
	if l.Process == "" {
		stream, text = "system", l.Level+" "+l.Text
	}
	return ui.LogLine{Time: l.Time, Source: l.Source(), Stream: stream, Text: ui.Plain(text)}
}

func (p *Pages) logs(w http.ResponseWriter, r *http.Request) error {
	a, _, f, err := p.find(r, "logs")
	if err != nil {
		return err
	}
	o := logs.Options{Tail: shownLines, Process: r.URL.Query().Get("process")}
	var lines []ui.LogLine
	last := time.Time{}
	err = p.platform.Logs(r.Context(), identity.Of(r), a.Name, o, func(l logs.Line) error {
		lines = append(lines, row(l))
		last = l.Time
		return nil
	})
	if err != nil {
		return err
	}
	stream := a.Path() + "/logs/stream?process=" + o.Process + "&after=" + strconv.FormatInt(last.UnixNano(), 10)
	return p.ui.Render(w, r, "app-logs", map[string]any{
		"App": a, "Lines": lines, "Stream": stream, "Process": o.Process, "Formation": f,
	})
}

// logStream sends the lines after those that the browser has.
func (p *Pages) logStream(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "logs")
	if err != nil {
		return err
	}
	stream, err := web.NewEvents(w, r)
	if err != nil {
		return err
	}
	had := r.URL.Query().Get("after")
	if id := stream.LastID(); id != "" {
		had = id
	}
	nanos, _ := strconv.ParseInt(had, 10, 64)
	after := time.Unix(0, nanos)
	o := logs.Options{Tail: 5 * shownLines, Follow: true, Process: r.URL.Query().Get("process")}
	return gone(r, p.platform.Logs(r.Context(), identity.Of(r), a.Name, o, func(l logs.Line) error {
		if !l.Time.After(after) {
			return nil
		}
		return ui.SendLine(stream, strconv.FormatInt(l.Time.UnixNano(), 10), row(l))
	}))
}

// gone is nil when an error only means that the browser has left.
func gone(r *http.Request, err error) error {
	if r.Context().Err() != nil {
		return nil
	}
	return err
}

// output is what a build has printed so far.
func (p *Pages) output(r *http.Request, a app, b catalog.Build) []ui.LogLine {
	var text bytes.Buffer
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// A build that goes on is shown as far as it has come: the flush after that ends the reading.
	err := p.platform.Output(ctx, identity.Of(r), a.Name, b.UUID, &text, cancel)
	if err != nil && !errors.Is(err, context.Canceled) {
		p.log.Warn("could not read the output of a build", "build", b.UUID, "err", err)
	}
	return split(text.String())
}

func split(text string) []ui.LogLine {
	var lines []ui.LogLine
	for line := range strings.Lines(text) {
		lines = append(lines, printed(line))
	}
	return lines
}

// printed is a line of a build; those that say how it goes stand out.
func printed(line string) ui.LogLine {
	l := ui.LogLine{Text: ui.Plain(strings.TrimRight(line, "\r\n"))}
	switch {
	case strings.HasPrefix(line, "----->"):
		l.Stream = "system"
	case strings.HasPrefix(line, " !"):
		l.Stream = "fault"
	}
	return l
}

func unfinished(b catalog.Build) bool {
	return b.State == catalog.Waiting || b.State == catalog.Building
}

func (p *Pages) build(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "releases")
	if err != nil {
		return err
	}
	_, b, err := p.platform.Build(r.Context(), identity.Of(r), a.Name, r.PathValue("build"))
	if err != nil {
		return err
	}
	data := map[string]any{"App": a, "Build": b}
	if lines := p.output(r, a, b); unfinished(b) {
		data["Stream"] = a.Path() + "/builds/" + b.UUID + "/stream"
	} else {
		data["Lines"] = lines
	}
	return p.ui.Render(w, r, "app-build", data)
}

// buildStream sends the output from its beginning, or after the line that the browser had.
func (p *Pages) buildStream(w http.ResponseWriter, r *http.Request) error {
	a, _, _, err := p.find(r, "releases")
	if err != nil {
		return err
	}
	stream, err := web.NewEvents(w, r)
	if err != nil {
		return err
	}
	skip, _ := strconv.Atoi(stream.LastID())
	out := &liner{send: func(n int, line string) error {
		if n <= skip {
			return nil
		}
		return ui.SendLine(stream, strconv.Itoa(n), printed(line))
	}}
	if err := p.platform.Output(r.Context(), identity.Of(r), a.Name, r.PathValue("build"), out, nil); err != nil {
		return gone(r, err)
	}
	return gone(r, stream.Send("end", "", []byte("end")))
}

// A liner cuts what is written into numbered lines.
type liner struct {
	send func(n int, line string) error
	rest []byte
	n    int
}

func (l *liner) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		l.n++
		if err := l.send(l.n, string(l.rest[:i])); err != nil {
			return 0, err
		}
		l.rest = l.rest[i+1:]
	}
}

// drawn are the plots of an app.
func (p *Pages) drawn(r *http.Request, name string) ([]ui.Plot, error) {
	samples, err := p.platform.Metrics(r.Context(), identity.Of(r), name)
	if err != nil {
		return nil, err
	}
	t := web.LocaleOf(r).T
	plots := []ui.Plot{
		{Title: t("app.plot.requests"), Unit: "/s", Least: 1}, {Title: t("app.plot.latency"), Unit: "ms", Least: 10},
		{Title: t("app.plot.cpu"), Unit: "%", Least: 10}, {Title: t("app.plot.memory"), Unit: "bytes", Least: 16 << 20},
	}
	for _, s := range samples {
		for i, v := range []float64{s.Requests, s.P95, s.CPU * 100, float64(s.Memory)} {
			plots[i].Values = append(plots[i].Values, v)
		}
	}
	for i := range plots {
		plots[i].Step = meter.Step
	}
	return plots, nil
}
