package push

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// keepalive is how long a push may be silent; half a minute is where proxies lose patience.
const keepalive = 5 * time.Second

// drainTime is how long a refused client may go on sending before it is cut off.
const drainTime = time.Minute

// A session is one push of one client.
type session struct {
	s       *Service
	target  Target
	req     wire.PushRequest
	push    Push
	band    *wire.SideBand // nil: the client has none
	out     io.Writer      // the report, where there is no side band
	results []wire.Result
	why     string // why the pack was refused
}

// Receive serves git-receive-pack after its advertisement: it reads the commands and the
// pack from in and reports on out. That the client was told no is not an error; an error
// means that the conversation broke, or that something here is broken.
func (s *Service) Receive(ctx context.Context, who identity.Who, t Target, in io.Reader, out io.Writer) error {
	req, err := wire.ReadPush(in)
	switch {
	case errors.Is(err, io.EOF):
		return nil // it looked and left
	case errors.Is(err, wire.ErrMalformed):
		return fault.Invalid("this is not how git pushes: %w", err).Try("update your git client")
	case err != nil:
		return fmt.Errorf("read commands: %w", err)
	case len(req.Commands) == 0:
		return nil
	}
	ss := &session{s: s, target: t, req: req, out: out, push: Push{
		ID: rand.Text(), Repo: t.ID, Path: t.Path, Pusher: who.ID, PusherName: who.Name, At: db.Now().Time,
	}}
	if req.Has("side-band-64k") || req.Has("side-band") {
		ss.band = wire.NewSideBand(out, !req.Has("side-band-64k"))
		stop := ss.keepAlive()
		defer stop()
	}
	return ss.run(ctx, in)
}

// keepAlive sends an empty packet when a gate or a deploy is silent.
func (ss *session) keepAlive() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(keepalive)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				ss.band.Idle()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// run takes the push through its steps. Every way out reports to the client.
func (ss *session) run(ctx context.Context, in io.Reader) error {
	once, _ := ss.s.swept.LoadOrStore(ss.target.Git.Dir(), new(sync.Once))
	once.(*sync.Once).Do(ss.target.Git.Sweep)
	q, err := ss.target.Git.Quarantine()
	if err != nil {
		return ss.refuse(ctx, err)
	}
	defer q.Drop()
	if ss.req.HasPack() {
		err = q.Receive(ctx, in, ss.s.cfg.Limit, ss.progressIfWanted())
		defer waitDrained(q)
	}
	if err != nil {
		return ss.refuse(ctx, err)
	}
	ss.judge()
	if ids := ss.newIDs(); len(ids) > 0 {
		if err := q.Check(ctx, ids); err != nil {
			return ss.refuse(ctx, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err // the client left in time
	}
	ss.s.active.add(1)
	defer ss.s.active.add(-1)
	ctx, cancel := ss.s.detach(ctx)
	defer cancel()
	moved, err := ss.decide(ctx, q)
	if err != nil {
		return ss.refuse(ctx, err)
	}
	if err := ss.report(); err != nil {
		ss.s.cfg.Log.Info("client left before the report", "push", ss.push.ID, "repo", ss.push.Path)
	}
	if moved && ss.target.ID != 0 {
		ss.follow(ctx)
	}
	return ss.close()
}

func waitDrained(q *git.Quarantine) {
	drained := q.Drained()
	if drained == nil {
		return
	}
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-drained:
	case <-t.C:
	}
}

func (ss *session) newIDs() []string {
	var ids []string
	for i, c := range ss.req.Commands {
		if !c.Deletes() && ss.results[i].Why == "" {
			ids = append(ids, c.New)
		}
	}
	return ids
}

// judge refuses commands that are wrong whatever the repository holds.
func (ss *session) judge() {
	seen := map[string]bool{}
	for _, c := range ss.req.Commands {
		why := ""
		switch {
		case !git.ValidRef(c.Ref) || !validHead(c.Ref):
			why = "not a valid name"
		case reserved(c.Ref):
			why = "the server keeps these names for itself"
		case seen[c.Ref]:
			why = "named twice in one push"
		case c.Deletes() && ss.target.Default != "" && c.Ref == "refs/heads/"+ss.target.Default:
			why = "the default branch cannot be deleted"
		}
		seen[c.Ref] = true
		ss.results = append(ss.results, wire.Result{Ref: c.Ref, Why: why})
	}
}

// validHead refuses branches that git's own commands would not make: -x, HEAD.
func validHead(ref string) bool {
	branch, ok := strings.CutPrefix(ref, "refs/heads/")
	return !ok || git.ValidBranch(branch)
}

// reserved names are moved by Sampan only.
func reserved(ref string) bool {
	return strings.HasPrefix(ref, "refs/pull/") || strings.HasPrefix(ref, "refs/sampan/")
}

// decide takes the turn and moves the refs, or leaves the reasons in results. It reports
// whether any ref moved.
func (ss *session) decide(ctx context.Context, q *git.Quarantine) (bool, error) {
	release, err := ss.s.turns.take(ctx, ss.target.Git.Dir(), func() {
		fmt.Fprintln(ss.progress(), "Another push to this repository is under way; waiting for it...")
	})
	if err != nil {
		return false, err
	}
	defer release()
	if ss.target.ID != 0 {
		if err := ss.s.settleRepo(ctx, ss.target.ID); err != nil {
			return false, err
		}
	}
	if err := ss.compare(ctx); err != nil {
		return false, err
	}
	ss.keepAtomic()
	commands := ss.accepted()
	if len(commands) == 0 {
		return false, nil
	}
	ss.push.Updates = updates(commands)
	if ss.target.Gate != nil {
		if err := ss.target.Gate(ctx, ss.push, q.Env(), ss.progress()); err != nil {
			ss.declined(err)
			return false, nil
		}
	}
	if err := q.Keep(); err != nil {
		return false, err
	}
	return ss.move(ctx, commands)
}

// compare refuses commands whose old value is not what the ref is now.
func (ss *session) compare(ctx context.Context) error {
	names := make([]string, len(ss.req.Commands))
	for i, c := range ss.req.Commands {
		names[i] = c.Ref
	}
	now, err := ss.target.Git.Lookup(ctx, names)
	if err != nil {
		return err
	}
	for i, c := range ss.req.Commands {
		if ss.results[i].Why != "" {
			continue
		}
		at, exists := now[c.Ref]
		if !exists {
			at = wire.ZeroID
		}
		switch {
		case c.Deletes() && !exists:
			ss.results[i].Why = "there is no such ref"
		case at != c.Old:
			ss.results[i].Why = "it was pushed by someone else meanwhile; fetch first"
		}
	}
	return nil
}

// keepAtomic refuses the whole push when the client asked for all or nothing.
func (ss *session) keepAtomic() {
	if !ss.req.Has("atomic") || len(ss.accepted()) == len(ss.results) {
		return
	}
	for i := range ss.results {
		if ss.results[i].Why == "" {
			ss.results[i].Why = "atomic push failed"
		}
	}
}

func (ss *session) accepted() []wire.Command {
	var list []wire.Command
	for i, c := range ss.req.Commands {
		if ss.results[i].Why == "" {
			list = append(list, c)
		}
	}
	return list
}

func updates(commands []wire.Command) []Update {
	list := make([]Update, len(commands))
	for i, c := range commands {
		list[i] = Update{Ref: c.Ref, Old: c.Old, New: c.New}
	}
	return list
}

// move writes the intent, moves the refs, and settles.
func (ss *session) move(ctx context.Context, commands []wire.Command) (bool, error) {
	if ss.target.ID != 0 {
		if err := ss.s.intend(ctx, ss.push); err != nil {
			return false, err
		}
	}
	moved := ss.updateRefs(ctx, commands)
	ss.push.Updates = updates(moved)
	select {
	case ss.s.worn <- ss.target.Git:
	default: // many wait already; the next push asks again
	}
	if ss.target.ID == 0 {
		return len(moved) > 0, nil
	}
	err := ss.s.forgetOrSettle(ctx, ss.push)
	if err != nil {
		// The refs have moved and the intent is written: Run announces the push later.
		ss.s.cfg.Log.Error("push not settled", "push", ss.push.ID, "repo", ss.push.Path, "err", err)
		select {
		case ss.s.unsettled <- struct{}{}:
		default:
		}
	}
	return len(moved) > 0 && err == nil, nil
}

func (s *Service) forgetOrSettle(ctx context.Context, p Push) error {
	if len(p.Updates) == 0 {
		return s.forget(ctx, p.ID)
	}
	return s.settle(ctx, p)
}

// updateRefs moves all refs in one transaction. When that fails and the client did not
// ask for all or nothing, each gets its own, so that each gets its own reason.
func (ss *session) updateRefs(ctx context.Context, commands []wire.Command) []wire.Command {
	signer := git.Signer{Name: ss.push.PusherName, Email: ss.push.PusherName + "@localhost"}
	err := ss.target.Git.UpdateRefs(ctx, commands, "push", signer)
	if err == nil {
		return commands
	}
	if len(commands) == 1 || ss.req.Has("atomic") {
		for _, c := range commands {
			ss.ng(c.Ref, err)
		}
		return nil
	}
	var moved []wire.Command
	for _, c := range commands {
		if err := ss.target.Git.UpdateRefs(ctx, []wire.Command{c}, "push", signer); err != nil {
			ss.ng(c.Ref, err)
			continue
		}
		moved = append(moved, c)
	}
	return moved
}

// ng gives a ref the reason why it did not move.
func (ss *session) ng(ref string, err error) {
	why := "the server failed to move it; an administrator finds the reason in the log"
	var ce *git.CommandError
	if f, ok := fault.Of(err); ok {
		why = f.Message
	} else if errors.As(err, &ce) && ce.Stderr != "" {
		why = refReason(ce.Stderr)
	}
	ss.s.cfg.Log.Warn("ref not moved", "push", ss.push.ID, "repo", ss.push.Path, "ref", ref, "err", err)
	for i := range ss.results {
		if ss.results[i].Ref == ref {
			ss.results[i].Why = why
		}
	}
}

// refReason shortens what git says about a failed transaction.
func refReason(stderr string) string {
	switch {
	case strings.Contains(stderr, "cannot create") || strings.Contains(stderr, "exists; cannot"):
		return "its name collides with another ref: one is a directory of the other"
	case strings.Contains(stderr, "non-commit object"):
		return "a branch can only name a commit"
	case strings.Contains(stderr, "but expected"):
		return "it was pushed by someone else meanwhile; fetch first"
	}
	lines := strings.Split(stderr, "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "fatal: ")
}
