// Package formation keeps the intentions of apps in etcd: what shall run, and what does.
//
// Below /sampan/apps/KEY there are two kinds of keys: "formation" says which release serves
// with how many instances of each process type, and which is to follow it; "instances/NAME"
// says what one instance was last seen to be. The formation is the point at which a deploy
// is decided: it is changed by compare-and-swap, so that of two servers one wins. Values are
// JSON. A write that returned is durable.
package formation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan.dev/sampan/apps/internal/runner"
)

const (
	prefix       = "/sampan/apps/"
	leaf         = "/formation"
	instanceDir  = "/instances/"
	maxConflicts = 16
)

// Counts say how many instances of each process type run.
type Counts map[string]int

// A Formation is what shall run of one app.
type Formation struct {
	Release    int    `json:"release"` // 0: nothing yet
	Counts     Counts `json:"counts"`
	Next       int    `json:"next,omitempty"` // being started beside Release, to replace it
	NextCounts Counts `json:"nextCounts,omitempty"`

	Revision int64 `json:"-"` // of etcd; a later formation has a greater one
}

// Promoted is the formation after its next release has become ready.
func (f Formation) Promoted() Formation { return Formation{Release: f.Next, Counts: f.NextCounts} }

// Dropped is the formation after its next release has failed.
func (f Formation) Dropped() Formation { return Formation{Release: f.Release, Counts: f.Counts} }

// Equal reports whether both say the same.
func (f Formation) Equal(g Formation) bool {
	return f.Release == g.Release && f.Next == g.Next && maps.Equal(f.Counts, g.Counts) && maps.Equal(f.NextCounts, g.NextCounts)
}

// The states of an instance.
const (
	Starting = "starting"
	Up       = "up"
	Stopping = "terminating"
	Crashed  = "crashed"
)

// An Instance is what was last seen of one.
type Instance struct {
	Name    string       `json:"name"`
	ID      string       `json:"id"`
	Process string       `json:"process"`
	Number  int          `json:"number"`
	Release int          `json:"release"`
	State   string       `json:"state"`
	Addr    string       `json:"addr,omitempty"`
	Started time.Time    `json:"started"`
	Exit    *runner.Exit `json:"exit,omitempty"`
	Reason  string       `json:"reason,omitempty"` // why it is not up
	Retry   time.Time    `json:"retry,omitzero"`   // when a crashed one is started again
}

// A Store reads and writes intentions.
type Store struct{ kv *clientv3.Client }

// New makes a Store on a client that stays the caller's.
func New(kv *clientv3.Client) *Store { return &Store{kv: kv} }

func key(app string) string { return prefix + app + leaf }

// Load reads a formation; of an app that never had one it is empty.
func (s *Store) Load(ctx context.Context, app string) (Formation, error) {
	resp, err := s.kv.Get(ctx, key(app))
	if err != nil {
		return Formation{}, fmt.Errorf("load formation of app %s: %w", app, err)
	}
	if len(resp.Kvs) == 0 {
		return Formation{Counts: Counts{}}, nil
	}
	return parse(resp.Kvs[0])
}

func parse(kv *mvccpb.KeyValue) (Formation, error) {
	f := Formation{Revision: kv.ModRevision}
	if err := json.Unmarshal(kv.Value, &f); err != nil {
		return Formation{}, fmt.Errorf("read formation %s: %w", kv.Key, err)
	}
	if f.Counts == nil {
		f.Counts = Counts{}
	}
	return f, nil
}

// Update changes a formation. change may be called more than once; its error ends the update.
func (s *Store) Update(ctx context.Context, app string, change func(Formation) (Formation, error)) (Formation, error) {
	for range maxConflicts {
		now, err := s.Load(ctx, app)
		if err != nil {
			return Formation{}, err
		}
		next, err := change(now)
		if err != nil || (now.Revision != 0 && next.Equal(now)) {
			return now, err
		}
		value, err := json.Marshal(next)
		if err != nil {
			return Formation{}, fmt.Errorf("encode formation: %w", err)
		}
		resp, err := s.kv.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key(app)), "=", now.Revision)).
			Then(clientv3.OpPut(key(app), string(value))).Commit()
		if err != nil {
			return Formation{}, fmt.Errorf("write formation of app %s: %w", app, err)
		}
		if resp.Succeeded {
			next.Revision = resp.Header.Revision
			return next, nil
		}
	}
	return Formation{}, fmt.Errorf("write formation of app %s: others kept changing it", app)
}

// Delete forgets an app.
func (s *Store) Delete(ctx context.Context, app string) error {
	_, err := s.kv.Delete(ctx, prefix+app+"/", clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("delete formation of app %s: %w", app, err)
	}
	return nil
}

// Instances reads what was last seen of an app's instances, by name.
func (s *Store) Instances(ctx context.Context, app string) (map[string]Instance, error) {
	resp, err := s.kv.Get(ctx, prefix+app+instanceDir, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("load instances of app %s: %w", app, err)
	}
	list := map[string]Instance{}
	for _, kv := range resp.Kvs {
		var in Instance
		if err := json.Unmarshal(kv.Value, &in); err != nil {
			return nil, fmt.Errorf("read instance %s: %w", kv.Key, err)
		}
		list[in.Name] = in
	}
	return list, nil
}

// Record writes what changed between was and is, in one transaction.
func (s *Store) Record(ctx context.Context, app string, was, is map[string]Instance) error {
	var ops []clientv3.Op
	for name, in := range is {
		value, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode instance: %w", err)
		}
		if old, ok := was[name]; ok {
			if before, err := json.Marshal(old); err == nil && string(before) == string(value) {
				continue
			}
		}
		ops = append(ops, clientv3.OpPut(prefix+app+instanceDir+name, string(value)))
	}
	for name := range was {
		if _, ok := is[name]; !ok {
			ops = append(ops, clientv3.OpDelete(prefix+app+instanceDir+name))
		}
	}
	for len(ops) > 0 {
		n := min(len(ops), 100) // etcd takes 128 operations a transaction
		if _, err := s.kv.Txn(ctx).Then(ops[:n]...).Commit(); err != nil {
			return fmt.Errorf("record instances of app %s: %w", app, err)
		}
		ops = ops[n:]
	}
	return nil
}

// ErrLost ends a Watch that etcd could not continue; the caller begins again.
var ErrLost = errors.New("the watch on formations was lost")

// Watch calls set with every formation there is, then with each that changes, and gone when
// an app is forgotten, until ctx ends.
func (s *Store) Watch(ctx context.Context, set func(app string, f Formation), gone func(app string), listed func()) error {
	resp, err := s.kv.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("list formations: %w", err)
	}
	for _, kv := range resp.Kvs {
		if app, ok := appOf(string(kv.Key)); ok {
			f, err := parse(kv)
			if err != nil {
				return err
			}
			set(app, f)
		}
	}
	listed()
	changes := s.kv.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	for change := range changes {
		if err := change.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrLost, err)
		}
		for _, e := range change.Events {
			app, ok := appOf(string(e.Kv.Key))
			if !ok {
				continue
			}
			if e.Type == clientv3.EventTypeDelete {
				gone(app)
				continue
			}
			f, err := parse(e.Kv)
			if err != nil {
				return err
			}
			set(app, f)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return ErrLost
}

// appOf reads the app off a formation's key.
func appOf(key string) (string, bool) {
	app, ok := strings.CutSuffix(strings.TrimPrefix(key, prefix), leaf)
	return app, ok && !strings.Contains(app, "/")
}

// Main is the process type that an app without a Procfile has: "web" for what was built from
// source here, "cmd" for an image that says itself what it runs.
func Main(dockerfile bool, sha string) string {
	if dockerfile || sha == "" {
		return "cmd"
	}
	return "web"
}

// Routed is the process type that requests go to: "web", else "cmd", else none.
func (c Counts) Routed() string {
	for _, process := range []string{"web", "cmd"} {
		if _, ok := c[process]; ok {
			return process
		}
	}
	return ""
}
