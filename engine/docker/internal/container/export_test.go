package container

import (
	"io"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/container"

	"sampan.dev/sampan/engine"
	"sampan.dev/sampan/engine/docker/internal/api"
)

// SpecOf maps a request whose networks need no looking up.
func SpecOf(r *http.Request, image engine.ImageConfig) (engine.Spec, error) {
	q, _, err := parseRequest(r)
	if err != nil {
		return engine.Spec{}, err
	}
	q.merge(image)
	if err := q.check(); err != nil {
		return engine.Spec{}, err
	}
	return new(Service).spec(r.Context(), &q)
}

// ConfigOf is what inspect would tell of a container that is made of that spec.
func ConfigOf(s engine.Spec) (*container.Config, *container.HostConfig, error) {
	q, err := requestOf(engine.Container{Spec: s})
	return q.Config, q.HostConfig, err
}

// Takes reports whether a list with those filters has a container.
func Takes(f api.Filters, c engine.Container, now choiceNow) (bool, error) {
	q, err := requestOf(c)
	if err != nil {
		return false, err
	}
	if err := checkValues(f); err != nil {
		return false, err
	}
	ch := &choice{filters: f, all: now.All, before: now.Before, since: now.Since, networks: now.Networks, images: now.Images}
	if ch.expose, err = portSet(f, "expose"); err != nil {
		return false, err
	}
	if ch.publish, err = portSet(f, "publish"); err != nil {
		return false, err
	}
	return ch.takes(c, q), nil
}

// ChoiceNow is what the engine is asked for.
type ChoiceNow = choiceNow

type choiceNow struct {
	All           bool
	Before, Since time.Time
	Networks      map[string]string
	Images        map[string]bool
}

// Keys types into a watcher piece by piece.
func Keys(names string, pieces ...string) (passed string, left bool, err error) {
	keys, err := parseKeys(names)
	if err != nil {
		return "", false, err
	}
	w := watcher{keys: keys}
	var out []byte
	for _, p := range pieces {
		if out, left = w.pass(out, []byte(p)); left {
			break
		}
	}
	return string(out), left, nil
}

// Lazy is a writer that gathers.
func Lazy(w io.Writer, flush func()) (io.Writer, func()) {
	l := &lazy{w: w, flush: flush}
	return l, l.close
}

var (
	ParsePs     = parsePs
	CheckPsArgs = checkPsArgs
	Status      = status
	Command     = command
	RandomName  = randomName
	Tail        = tail
	Limits      = limits
)
