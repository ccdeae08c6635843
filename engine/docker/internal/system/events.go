package system

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	types "github.com/moby/moby/api/types/events"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
	"sampan.dev/sampan/engine/docker/internal/moment"
	"sampan.dev/sampan/internal/fault"
)

// events tells of what happens, until the client goes or the time it gave is over. What lies
// before that, as far as it is remembered, is told at once.
func (s *Service) events(w http.ResponseWriter, r *http.Request) error {
	f, err := api.FiltersOf(r)
	if err != nil {
		return err
	}
	since, until, err := span(r)
	if err != nil {
		return err
	}
	if api.AtLeast(r, "1.52") {
		w.Header().Set("Content-Type", "application/jsonl")
	}
	// The past is told before anybody looks whether the time is over.
	ctx, cancel := r.Context(), func() {}
	if !until.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, until)
	}
	defer cancel()
	s.listeners.Add(1)
	defer s.listeners.Add(-1)
	st := api.Stream(w)
	old := !api.AtLeast(r, "1.52")
	err = s.engine.Events(ctx, since, st.Begin, func(ev engine.Event) error {
		m := message(ev)
		if !until.IsZero() && ev.Time.After(until) || ev.Action == "retry" || !fits(f, m) {
			return nil
		}
		if old {
			return st.Send(aged(m))
		}
		return st.Send(m)
	})
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil // it is over, or nobody listens any more
	}
	return err
}

func span(r *http.Request) (since, until time.Time, err error) {
	for key, to := range map[string]*time.Time{"since": &since, "until": &until} {
		text := api.Query(r).Get(key)
		if text == "" {
			continue
		}
		if *to, err = moment.Parse(text, time.Now()); err != nil {
			return since, until, fault.Invalid("invalid value for '%s': %w", key, err)
		}
	}
	if !until.IsZero() && until.Before(since) {
		return since, until, fault.Invalid("`since` time (%s) cannot be after `until` time (%s)", api.Query(r).Get("since"), api.Query(r).Get("until"))
	}
	return since, until, nil
}

// message is an event as Docker tells it.
func message(ev engine.Event) types.Message {
	attributes := map[string]string{}
	maps.Copy(attributes, ev.Labels)
	maps.Copy(attributes, ev.Attributes)
	if ev.Name != "" {
		attributes["name"] = ev.Name
	}
	switch ev.Type {
	case "container":
		attributes["image"] = ev.Image
		if ev.Exit != nil {
			attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
		}
	case "network":
		attributes["type"] = "bridge"
	case "volume":
		delete(attributes, "name") // its name is its ID
		attributes["driver"] = "local"
	}
	return types.Message{
		Type: types.Type(ev.Type), Action: types.Action(ev.Action), Actor: types.Actor{ID: ev.ID, Attributes: attributes},
		Scope: "local", Time: ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}
}

// old is an event with what clients looked at before there were kinds of events.
type old struct {
	Status types.Action `json:"status,omitempty"`
	ID     string       `json:"id,omitempty"`
	From   string       `json:"from,omitempty"`
	types.Message
}

func aged(m types.Message) old {
	switch m.Type {
	case types.ContainerEventType:
		return old{m.Action, m.Actor.ID, m.Actor.Attributes["image"], m}
	case types.ImageEventType:
		return old{m.Action, m.Actor.ID, "", m}
	}
	return old{Message: m}
}

// fits reports whether filters choose an event.
func fits(f api.Filters, m types.Message) bool {
	if !f.Match("type", string(m.Type)) || !f.Match("scope", m.Scope) || !happened(f, string(m.Action)) || !f.MatchLabels(m.Actor.Attributes) {
		return false
	}
	for _, kind := range []string{"container", "network", "volume", "daemon", "plugin", "service", "node", "secret", "config"} {
		if !f.MatchPrefix(kind, m.Actor.ID) && !f.MatchPrefix(kind, m.Actor.Attributes["name"]) {
			return false
		}
	}
	return fromImage(f, m)
}

// happened compares actions. Those that go on after a colon may be asked for by what is
// before it.
func happened(f api.Filters, action string) bool {
	if f.Match("event", action) {
		return true
	}
	head, _, more := strings.Cut(action, ":")
	return more && f["event"][head]
}

// fromImage finds events of an image, and of the containers made from it.
func fromImage(f api.Filters, m types.Message) bool {
	name := m.Actor.Attributes["image"]
	if m.Type == types.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	return f.MatchAny("image", m.Actor.ID, name, untagged(m.Actor.ID), untagged(name))
}

func untagged(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(named)
}
