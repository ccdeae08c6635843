// Package push receives what people push.
//
// A push is read, unpacked into quarantine and checked while the client is connected; a
// client that leaves until then leaves no trace. From then on it is accepted or refused
// whether the client waits or not: pushes to one repository take turns, the gate decides,
// objects are kept, the intent is written down, refs move in one transaction, and the
// push is settled: its event commits with its row. A crash between the last three is
// settled at the next start, by looking at the refs. So an acknowledged push is never
// lost, and each push that moved refs has exactly one event.
//
// It speaks gitprotocol-pack(5), version 0, which is what every git client uses to push.
package push

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/event"
)

// An Update is one ref that moved. An ID of forty zeros means: there was, or is, none.
type Update struct {
	Ref string `json:"ref"`
	Old string `json:"old"`
	New string `json:"new"`
}

// A Push is one accepted push.
type Push struct {
	ID         string    `json:"id"`
	Repo       int64     `json:"repo"` // 0: an app's remote
	Path       string    `json:"path"` // owner/name, or the app's name
	Pusher     int64     `json:"pusher"`
	PusherName string    `json:"pusher_name"`
	Updates    []Update  `json:"updates"`
	At         time.Time `json:"at"`
}

// Pushed happens once for each push whose refs moved.
var Pushed = event.Type[Push]{Name: "forge.Pushed"}

// A Gate decides about a push before refs move. What it writes to out is shown to the
// client as it comes; env lets git see the objects that are still in quarantine.
type Gate func(ctx context.Context, p Push, env []string, out io.Writer) error

// After is called once refs have moved, while the client waits.
type After func(ctx context.Context, p Push, out io.Writer) error

// A Target is where a push goes.
type Target struct {
	Git     git.Repo
	ID      int64 // 0: not a repository of the forge; no event, no After
	Path    string
	Default string // a branch that cannot be deleted; may be empty
	Gate    Gate   // may be nil
}

// Config of a Service.
type Config struct {
	DB     *db.DB
	Events *event.Bus
	Log    *slog.Logger
	Limit  int64                                              // bytes of one pack; 0: none
	Dir    func(repo int64) git.Repo                          // where a repository lies
	Moved  func(ctx context.Context, tx *db.Tx, p Push) error // runs in the settling transaction; may be nil
}

// A Service receives pushes. It is safe for concurrent use.
type Service struct {
	cfg       Config
	turns     turns
	swept     sync.Map // directory to *sync.Once
	after     []After
	active    active
	once      sync.Once
	closing   chan struct{}
	unsettled chan struct{} // holds one token when a push waits to be settled
	worn      chan git.Repo // repositories that got a push and may want maintenance
}

//go:embed migrations
var migrations embed.FS

// Open migrates, and settles what a crash interrupted.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := cfg.DB.Migrate(ctx, "forge_push", files); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, turns: turns{held: map[string]*turn{}}, closing: make(chan struct{}),
		unsettled: make(chan struct{}, 1), worn: make(chan git.Repo, 64),
	}
	return s, s.settleAll(ctx)
}

// After adds a function to be called after each push. Call it before pushes are received.
func (s *Service) After(fn After) { s.after = append(s.after, fn) }

// Run settles pushes that could not be settled at once, and maintains repositories.
func (s *Service) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			s.finish()
			return nil
		case r := <-s.worn:
			if err := r.Maintain(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("repository not maintained", "dir", r.Dir(), "err", err)
			}
		case <-s.unsettled:
			s.settleUntilDone(ctx)
		}
	}
}

// settleUntilDone tries again and again, ever more slowly: the database may be full or away.
func (s *Service) settleUntilDone(ctx context.Context) {
	wait := time.Second
	for {
		err := s.settleAll(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.cfg.Log.Error("pushes are accepted but not announced", "err", err, "again_in", wait)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		wait = min(2*wait, time.Minute)
	}
}

// stopTime is what pushes that are accepted, or in their gates, get when the server stops.
const stopTime = 5 * time.Second

// finish waits for pushes under way and then ends them: a deploy may take minutes, and
// goes on without the push that started it.
func (s *Service) finish() {
	done := make(chan struct{})
	go func() { s.active.Wait(); close(done) }()
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	s.Close()
	<-done
}

// Close ends the pushes that are under way.
func (s *Service) Close() error {
	s.once.Do(func() { close(s.closing) })
	return nil
}

// detach is ctx without its end: what was accepted goes on when its client leaves. It
// ends with the Service.
func (s *Service) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(); watch.Wait() }
}

// active counts pushes under way. Unlike a WaitGroup it may go up from zero while
// somebody waits.
type active struct {
	mu   sync.Mutex
	n    int
	zero []chan struct{}
}

func (a *active) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n += n; a.n > 0 {
		return
	}
	for _, c := range a.zero {
		close(c)
	}
	a.zero = nil
}

// Wait returns when there is none.
func (a *active) Wait() {
	a.mu.Lock()
	if a.n == 0 {
		a.mu.Unlock()
		return
	}
	c := make(chan struct{})
	a.zero = append(a.zero, c)
	a.mu.Unlock()
	<-c
}

// turns lets one push at a time move the refs of a repository.
type turns struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	token chan struct{}
	users int
}

// take waits for the turn; waiting is called when it is not free at once. The caller
// calls the function it gets exactly once.
func (t *turns) take(ctx context.Context, dir string, waiting func()) (func(), error) {
	t.mu.Lock()
	h := t.held[dir]
	if h == nil {
		h = &turn{token: make(chan struct{}, 1)}
		t.held[dir] = h
	}
	h.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(t.held, dir)
		}
	}
	select {
	case h.token <- struct{}{}:
	default:
		waiting()
		select {
		case h.token <- struct{}{}:
		case <-ctx.Done():
			leave()
			return nil, ctx.Err()
		}
	}
	return func() { <-h.token; leave() }, nil
}
