package push

import (
	"context"
	"fmt"
	"io"

	"sampan.dev/sampan/forge/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

// steady writes to the client and goes on when it has left.
type steady struct{ w io.Writer }

func (s steady) Write(p []byte) (int, error) {
	s.w.Write(p)
	return len(p), nil
}

// progress is what the client shows behind "remote: ". It never fails.
func (ss *session) progress() io.Writer {
	if ss.band == nil {
		return io.Discard
	}
	return steady{ss.band.Band(wire.BandProgress)}
}

// progressIfWanted is nil for a client that asked for silence (git push -q).
func (ss *session) progressIfWanted() io.Writer {
	if ss.band == nil || ss.req.Has("quiet") {
		return nil
	}
	return ss.progress()
}

// refuse reports that the push failed as a whole. An error that is not the user's is
// returned as well, for the log.
func (ss *session) refuse(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // nobody is listening
	}
	f, ok := fault.Of(err)
	if !ok {
		f = fault.Unavailable("something went wrong on the server (push %s)", ss.push.ID).
			Try("try again; if it stays, ask an administrator to look into the log")
	}
	ss.tell(f)
	ss.why = f.Message
	ss.results = ss.results[:0]
	for _, c := range ss.req.Commands {
		ss.results = append(ss.results, wire.Result{Ref: c.Ref, Why: "refused"})
	}
	if rerr := ss.report(); rerr == nil {
		ss.close()
	}
	if !ok {
		return fmt.Errorf("push %s to %s: %w", ss.push.ID, ss.push.Path, err)
	}
	return nil
}

// tell writes a fault in the words that the client shows.
func (ss *session) tell(f *fault.Fault) {
	fmt.Fprintf(ss.progress(), "error: %s\n", f.Message)
	if f.Hint != "" {
		fmt.Fprintf(ss.progress(), "hint: %s\n", f.Hint)
	}
}

// declined takes down that the gate said no. A gate's own output has the details.
func (ss *session) declined(err error) {
	why := "declined"
	if f, ok := fault.Of(err); ok {
		ss.tell(f)
		why = f.Message
	} else {
		ss.s.cfg.Log.Error("gate failed", "push", ss.push.ID, "repo", ss.push.Path, "err", err)
		ss.tell(fault.Unavailable("something went wrong on the server (push %s)", ss.push.ID))
	}
	for i := range ss.results {
		if ss.results[i].Why == "" {
			ss.results[i].Why = why
		}
	}
}

// report sends report-status, if the client asked for it.
func (ss *session) report() error {
	if !ss.req.Has("report-status") && !ss.req.Has("report-status-v2") {
		return nil
	}
	text := wire.Report(ss.why, ss.results)
	if ss.band == nil {
		_, err := ss.out.Write(text)
		return err
	}
	_, err := ss.band.Band(wire.BandData).Write(text)
	return err
}

// follow lets others speak to the client, such as the deploy that this push started.
func (ss *session) follow(ctx context.Context) {
	for _, after := range ss.s.after {
		err := after(ctx, ss.push, ss.progress())
		if err == nil || ctx.Err() != nil {
			continue
		}
		if f, ok := fault.Of(err); ok {
			ss.tell(f)
			continue
		}
		ss.s.cfg.Log.Error("after push", "push", ss.push.ID, "repo", ss.push.Path, "err", err)
		fmt.Fprintf(ss.progress(), "The push is accepted, but what follows it failed (push %s).\n", ss.push.ID)
	}
}

func (ss *session) close() error {
	if ss.band == nil {
		return nil
	}
	ss.band.Close() // an error means that the client left, which changes nothing any more
	return nil
}
