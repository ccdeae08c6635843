package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/pipeline"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// A Push is one that a forge has accepted, or is about to.
type Push struct {
	ID      string
	Repo    int64 // 0: an app's own remote
	Pusher  string
	Updates []Update
}

// An Update moves one ref.
type Update struct{ Ref, Old, New string }

// branch is the branch that an update moves to a commit; "" for tags and deletions.
func (u Update) branch() string {
	name, ok := strings.CutPrefix(u.Ref, "refs/heads/")
	if !ok || strings.Trim(u.New, "0") == "" {
		return ""
	}
	return name
}

// tickets records the builds that a push starts. It is safe to call twice.
func (p *Platform) tickets(ctx context.Context, push Push) ([]catalog.App, []*pipeline.Ticket, error) {
	var apps []catalog.App
	var tickets []*pipeline.Ticket
	for _, u := range push.Updates {
		branch := u.branch()
		if branch == "" || push.Repo == 0 {
			continue
		}
		following, err := p.catalog.Apps(ctx, "destroying = 0 AND repo_id = ? AND branch = ?", push.Repo, branch)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range following {
			if err := p.maySource(ctx, identity.View, a); err != nil {
				if _, refused := fault.Of(err); !refused {
					return nil, nil, err
				}
				p.cfg.Log.Info("a push deploys no app whose owner may not see it", "app", a.Name, "why", err)
				continue
			}
			t, err := p.pipeline.Submit(ctx, a, pipeline.Request{
				Author: push.Pusher, Cause: "push:" + push.ID + ":" + branch, SHA: u.New, Branch: branch,
			})
			if err != nil {
				return nil, nil, err
			}
			apps, tickets = append(apps, a), append(tickets, t)
		}
	}
	return apps, tickets, nil
}

// Pushed records that the apps which follow a branch are to be deployed, and returns: it is
// for the event of a push, which comes at least once.
func (p *Platform) Pushed(ctx context.Context, push Push) error {
	_, _, err := p.tickets(ctx, push)
	return err
}

// Follow does the same and shows out what happens until the deploys have ended. A deploy that
// fails is told there; the push itself has succeeded. Everybody may let an app follow what
// they may see: who pushes hears of and waits for those apps only whose owners may push too.
func (p *Platform) Follow(ctx context.Context, push Push, out io.Writer) error {
	apps, tickets, err := p.tickets(ctx, push)
	if err != nil {
		return err
	}
	for i, t := range tickets {
		if err := p.maySource(ctx, identity.Write, apps[i]); err != nil {
			continue
		}
		if _, err := t.Follow(ctx, out); err != nil {
			if ctx.Err() != nil || fault.Is(err, fault.KindUnavailable) {
				return nil // the client is gone, or the server goes; the deploy goes on
			}
			fmt.Fprintf(out, " !     The push is kept, but %s still serves what it served before.\n", apps[i].Name)
		}
	}
	return nil
}

// Remote is the directory of an app's own remote, for someone who fetches from it or pushes.
func (p *Platform) Remote(ctx context.Context, who identity.Who, name string, write bool) (dir string, err error) {
	act := identity.View
	if write {
		act = identity.Write
	}
	a, err := p.App(ctx, who, act, name)
	if err != nil {
		return "", err
	}
	if write && a.Repo != 0 {
		return "", fault.Conflict("%s is deployed from %s (%s)", a.Name, a.RepoPath, a.Branch).Try("push there")
	}
	return p.remote(a).Dir, nil
}

// Gate builds and deploys what is pushed to an app's own remote before the ref moves; env
// lets git see the pushed objects. A failure refuses the push.
func (p *Platform) Gate(ctx context.Context, name string, push Push, env []string, out io.Writer) error {
	a, err := p.catalog.App(ctx, name)
	if err != nil {
		return err
	}
	var deploy []Update
	for _, u := range push.Updates {
		if u.branch() != "" {
			deploy = append(deploy, u)
		}
	}
	switch len(deploy) {
	case 0:
		return nil // a tag, or a branch that goes
	case 1:
	default:
		return fault.Invalid("this push moves %d branches, and one is what is deployed", len(deploy)).Try("push one branch: git push REMOTE main")
	}
	source := p.remote(a)
	source.Env = env
	t, err := p.pipeline.Submit(ctx, a, pipeline.Request{
		Author: push.Pusher, Cause: pipeline.GateCause + push.ID, SHA: deploy[0].New, Branch: deploy[0].branch(),
		Checkout: func(ctx context.Context, dir string) (time.Time, error) {
			return source.Checkout(ctx, deploy[0].New, dir)
		},
	})
	if err != nil {
		return err
	}
	if _, err := t.Follow(ctx, out); err != nil {
		return errors.Join(fault.Invalid("%s was not deployed, so the push is refused", a.Name), err)
	}
	return nil
}
