package deis

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/platform"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

type config struct {
	UUID  string `json:"uuid"`
	App   string `json:"app"`
	Owner string `json:"owner"`
	catalog.Settings
	Created string `json:"created"`
	Updated string `json:"updated"`
}

func newConfig(a catalog.App, c catalog.Config) config {
	return config{UUID: c.UUID, App: a.Name, Owner: c.Author, Settings: c.Settings, Created: stamp(c.Created), Updated: stamp(c.Created)}
}

func (a *API) config(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, cfg, err := a.platform.Config(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, newConfig(c, cfg))
}

func (a *API) setConfig(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct {
		Values, Memory, CPU, Tags, Registry map[string]json.RawMessage
		Healthcheck                         map[string]json.RawMessage
	}
	if err := read(r, &in); err != nil {
		return err
	}
	patch := platform.Patch{Healthcheck: in.Healthcheck}
	for _, section := range []struct {
		name string
		from map[string]json.RawMessage
		to   *map[string]*string
	}{
		{"values", in.Values, &patch.Values}, {"memory", in.Memory, &patch.Memory}, {"cpu", in.CPU, &patch.CPU},
		{"tags", in.Tags, &patch.Tags}, {"registry", in.Registry, &patch.Registry},
	} {
		texts, err := texts(section.from)
		if err != nil {
			return fault.Invalid("%v", err).On(section.name)
		}
		*section.to = texts
	}
	c, cfg, err := a.platform.SetConfig(r.Context(), who, r.PathValue("app"), patch)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, newConfig(c, cfg))
}

// texts takes strings, numbers and booleans as what they look like; null stays nil.
func texts(from map[string]json.RawMessage) (map[string]*string, error) {
	to := map[string]*string{}
	for key, raw := range from {
		var text string
		switch {
		case string(raw) == "null":
			to[key] = nil
			continue
		case raw[0] == '"':
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, err
			}
		case raw[0] == '{' || raw[0] == '[':
			return nil, fmt.Errorf("the value of %s is not a text", key)
		default:
			text = string(raw)
		}
		to[key] = &text
	}
	return to, nil
}

type build struct {
	UUID       string            `json:"uuid"`
	App        string            `json:"app"`
	Owner      string            `json:"owner"`
	Image      string            `json:"image"`
	SHA        string            `json:"sha"`
	Dockerfile string            `json:"dockerfile"`
	Procfile   map[string]string `json:"procfile"`
	Created    string            `json:"created"`
	Updated    string            `json:"updated"`
	State      string            `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Builder    string            `json:"builder,omitempty"`
	Detected   string            `json:"detected,omitempty"`
}

func newBuild(a catalog.App, b catalog.Build) build {
	out := build{
		UUID: b.UUID, App: a.Name, Owner: b.Author, Image: b.Result.Image, SHA: b.SHA, Procfile: map[string]string{},
		Created: stamp(b.Created), Updated: stamp(b.Created), State: b.State, Reason: b.Reason, Builder: b.Result.Builder, Detected: b.Result.Detected,
	}
	if b.Result.Dockerfile {
		out.Dockerfile = "true"
	}
	if !b.Finished.IsZero() {
		out.Updated = stamp(b.Finished)
	}
	for process, argv := range b.Result.Processes {
		if len(argv) == 3 && argv[0] == "/bin/sh" {
			argv = argv[2:]
		}
		out.Procfile[process] = strings.Join(argv, " ")
	}
	return out
}

func (a *API) builds(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, found, err := a.platform.Builds(r.Context(), who, r.PathValue("app"), 0)
	if err != nil {
		return err
	}
	builds := make([]build, 0, len(found))
	for _, b := range found {
		builds = append(builds, newBuild(c, b))
	}
	return list(w, r, builds)
}

func (a *API) build(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, b, err := a.platform.Build(r.Context(), who, r.PathValue("app"), r.PathValue("uuid"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, newBuild(c, b))
}

func (a *API) pushImage(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct {
		Image    string
		Procfile map[string]string
	}
	if err := read(r, &in); err != nil {
		return err
	}
	c, b, err := a.platform.PushImage(r.Context(), who, r.PathValue("app"), in.Image, in.Procfile)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, newBuild(c, b))
}

// streamStall is how long a client that is there may take none of what is sent to it.
const streamStall = time.Minute

// A stream sends what is written at once.
type stream struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
}

func newStream(w http.ResponseWriter) stream {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	s := stream{w, http.NewResponseController(w)}
	s.ctl.Flush()
	return s
}

func (s stream) Write(p []byte) (int, error) {
	s.ctl.SetWriteDeadline(time.Now().Add(streamStall))
	defer s.ctl.SetWriteDeadline(time.Time{}) // a log may be quiet for long
	n, err := s.w.Write(p)
	if err == nil {
		err = s.ctl.Flush()
	}
	return n, err
}

func (a *API) output(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	if _, _, err := a.platform.Build(r.Context(), who, r.PathValue("app"), r.PathValue("uuid")); err != nil {
		return err
	}
	a.ended(r, a.platform.Output(r.Context(), who, r.PathValue("app"), r.PathValue("uuid"), newStream(w), nil))
	return nil
}

// ended is for answers that have begun: an error can only be logged.
func (a *API) ended(r *http.Request, err error) {
	if err != nil && r.Context().Err() == nil {
		a.log.Warn("a stream ended early", "path", r.URL.Path, "err", err)
	}
}

// deploy answers when there is something to show; until then an error has its status.
func (a *API) deploy(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var s stream
	out := writer(func(p []byte) (int, error) {
		if s.w == nil {
			s = newStream(w)
		}
		return s.Write(p)
	})
	build, err := a.platform.Redeploy(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return err
	}
	_, err = build.Follow(r.Context(), out)
	if s.w != nil {
		return nil // the output says how it ended
	}
	return err
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

type release struct {
	UUID    string  `json:"uuid"`
	App     string  `json:"app"`
	Owner   string  `json:"owner"`
	Version int     `json:"version"`
	Build   *string `json:"build"`
	Config  string  `json:"config"`
	Summary string  `json:"summary"`
	Failed  bool    `json:"failed"`
	Created string  `json:"created"`
	Updated string  `json:"updated"`
	State   string  `json:"state"`
	Reason  string  `json:"reason,omitempty"`
}

func newRelease(a catalog.App, c catalog.Release) release {
	out := release{
		UUID: c.UUID, App: a.Name, Owner: c.Author, Version: c.Version, Config: c.Config, Summary: c.Summary, Failed: c.Failed(),
		Created: stamp(c.Created), Updated: stamp(c.Created), State: c.State, Reason: c.Reason,
	}
	if c.Build != "" {
		out.Build = &c.Build
	}
	return out
}

func (a *API) releases(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, found, err := a.platform.Releases(r.Context(), who, r.PathValue("app"), 0)
	if err != nil {
		return err
	}
	releases := make([]release, 0, len(found))
	for _, one := range found {
		releases = append(releases, newRelease(c, one))
	}
	return list(w, r, releases)
}

func (a *API) release(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	version, err := strconv.Atoi(strings.TrimPrefix(r.PathValue("version"), "v"))
	if err != nil {
		return notFound("Release")
	}
	c, one, err := a.platform.Release(r.Context(), who, r.PathValue("app"), version)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, newRelease(c, one))
}

func (a *API) rollback(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Version int }
	if err := read(r, &in); err != nil {
		return err
	}
	made, err := a.platform.Rollback(r.Context(), who, r.PathValue("app"), in.Version)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, map[string]int{"version": made.Version})
}
