package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// A record is what is kept of a container: all that Start needs, so that the image may have
// lost its name meanwhile.
type record struct {
	ID      string
	Name    string
	Spec    Spec
	Image   string // digest of the configuration
	Digest  string // of the image, as its names point at it
	Chain   string // of the layers
	Created time.Time

	Args       []string
	Env        []string
	WorkDir    string
	User       string
	StopSignal int
	Health     *Health
	Volumes    []Mount // those of the spec and those of the image
	Filled     bool    // new ones have what the image has in their place

	Wanted bool   // it was started, and nobody stopped it
	Known  bool   // to sampan-init
	Error  string // why it could not be started
}

// A container is a record in use.
type container struct {
	life chan struct{} // has room for one: who makes a step of its life, as start or remove

	mu      sync.Mutex
	gone    bool
	mounted bool

	restarting int // calls of Restart that go on
	record
}

func newContainer(r record) *container { return &container{record: r, life: make(chan struct{}, 1)} }

// hold waits for its turn with a container; nobody else makes a step of its life until free.
func (c *container) hold(ctx context.Context) (free func(), err error) {
	select {
	case c.life <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		<-c.life
		return nil, fault.NotFound("container %s was just removed", c.Name)
	}
	return func() { <-c.life }, nil
}

// now is a copy of the record.
func (c *container) now() record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// lasting says whether a container is meant to outlive the machine's power.
func (r record) lasting() bool {
	return r.Spec.Restart.Policy != "" && r.Spec.Restart.Policy != RestartNo
}

func (e *Engine) home(id string) string { return e.path("containers", id) }

// change edits a record and writes it down.
func (e *Engine) change(c *container, edit func(*record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return fault.NotFound("container %s was just removed", c.Name)
	}
	edit(&c.record)
	return e.write(c.record)
}

// write replaces a record in one step. One that is not meant to last is not synced: that
// would cost more than the rest of a short container's life.
func (e *Engine) write(r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("describe container %s: %w", r.Name, err)
	}
	path := filepath.Join(e.home(r.ID), recordFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("describe container %s: %w", r.Name, err)
	}
	_, err = f.Write(raw)
	if err == nil && r.lasting() {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("describe container %s: %w", r.Name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("describe container %s: %w", r.Name, err)
	}
	return nil
}

const recordFile = "container.json"

// records reads all of them. What cannot be read was not meant to last, and is left over.
func (e *Engine) records() ([]record, []string, error) {
	entries, err := os.ReadDir(e.path("containers"))
	if err != nil {
		return nil, nil, fmt.Errorf("list the containers: %w", err)
	}
	var all []record
	var left []string
	for _, entry := range entries {
		var r record
		raw, err := os.ReadFile(filepath.Join(e.home(entry.Name()), recordFile))
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if err != nil || r.ID != entry.Name() {
			left = append(left, entry.Name())
			continue
		}
		all = append(all, r)
	}
	return all, left, nil
}

// find looks for an ID, a name, or the beginning of an ID.
func (e *Engine) find(id string) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.containers[id]; ok {
		return c, nil
	}
	if full, ok := e.names[strings.TrimPrefix(id, "/")]; ok {
		return e.containers[full], nil
	}
	var found []*container
	for full, c := range e.containers {
		if len(id) >= 2 && strings.HasPrefix(full, id) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fault.NotFound("there is no container %s", id)
	}
	return nil, fault.Invalid("%s is the beginning of %d containers", id, len(found)).Try("write more of it")
}

// take finds a container and waits for its turn with it.
func (e *Engine) take(ctx context.Context, id string) (c *container, free func(), err error) {
	if c, err = e.find(id); err != nil {
		return nil, nil, err
	}
	free, err = c.hold(ctx)
	return c, free, err
}

// all lists the records, the oldest first.
func (e *Engine) all() []record {
	e.mu.Lock()
	list := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		list = append(list, c)
	}
	e.mu.Unlock()
	all := make([]record, 0, len(list))
	for _, c := range list {
		all = append(all, c.now())
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Created.Before(all[j].Created) })
	return all
}

// claim takes a name for a new container.
func (e *Engine) claim(c *container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if other, ok := e.names[c.Name]; ok {
		return fault.Conflict("container %.12s has the name %s", other, c.Name).Try("remove it first, or choose another name").On("name")
	}
	e.names[c.Name], e.containers[c.ID] = c.ID, c
	return nil
}

func (e *Engine) release(c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, c.ID)
	if e.names[c.Name] == c.ID {
		delete(e.names, c.Name)
	}
}

func newID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
