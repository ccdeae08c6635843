package server

import (
	"context"
	"io"
	"net/http"

	"sampan.dev/sampan/apps"
	"sampan.dev/sampan/forge"
	"sampan.dev/sampan/internal/event"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

// link is where the parts meet: one sentence and one call each.
func link(p *parts) error {
	// Every request to the main host says who makes it, or is refused.
	p.web.Use(web.Compress(), p.identity.Middleware(p.ui.Error))

	// The forge's pages and git are at the root, Sampan's own below /-/.
	p.ui.Routes(p.web)
	p.forge.Routes(p.web)
	p.apps.Routes(p.web)

	// A client asks what this server is before it signs in.
	p.web.Handle("GET /-/about", p.about)

	// Who has a token can have a link that signs a browser in.
	p.web.Handle("POST /-/sign-in-link", p.signInLink)

	// A push deploys the apps that follow its branch, whatever becomes of its client.
	err := event.On(p.events, forge.Pushed, "deploy", func(ctx context.Context, push forge.Push) error {
		return p.apps.Pushed(ctx, pushOf(push))
	})
	if err != nil {
		return err
	}

	// The client that pushed sees the deploy, as long as it stays.
	p.forge.AfterPush(func(ctx context.Context, push forge.Push, out io.Writer) error {
		return p.apps.Follow(ctx, pushOf(push), out)
	})

	// An address of one part, /APP.git, is an app's own remote: the build decides about a push.
	p.forge.Remotes(func(ctx context.Context, who identity.Who, name string, write bool) (forge.Remote, error) {
		dir, err := p.apps.Remote(ctx, who, name, write)
		return forge.Remote{Dir: dir, Gate: func(ctx context.Context, push forge.Push, env []string, out io.Writer) error {
			return p.apps.Gate(ctx, name, pushOf(push), env, out)
		}}, err
	})

	// SSH commands that are not git's are for apps: run, logs, ps.
	p.forge.Consoles(func(ctx context.Context, who identity.Who, args []string, s forge.Streams) (int, bool, error) {
		return p.apps.Console(ctx, who, args, streamsOf(ctx, s))
	})

	// The controller API has a host of its own; whatever is no app's host is a page of ours.
	p.mesh.Host("deis."+p.cfg.Domain, p.apps.API())
	p.mesh.Main(p.web)
	return nil
}

// A source is the forge as apps see it.
type source struct{ *forge.Forge }

func (s source) Repo(ctx context.Context, who identity.Who, path string) (int64, string, error) {
	r, err := s.Forge.Repo(ctx, who, path)
	return r.ID, r.Path(), err
}

func pushOf(p forge.Push) apps.Push {
	push := apps.Push{ID: p.ID, Repo: p.Repo, Pusher: p.PusherName}
	for _, u := range p.Updates {
		push.Updates = append(push.Updates, apps.Update(u))
	}
	return push
}

func streamsOf(ctx context.Context, s forge.Streams) apps.Streams {
	to := apps.Streams{Stdin: s.In, Stdout: s.Out, Stderr: s.Err}
	if s.Terminal == nil {
		return to
	}
	size := func(z forge.Size) apps.Size { return apps.Size{Width: uint16(z.Columns), Height: uint16(z.Rows)} }
	sizes := make(chan apps.Size)
	go func() {
		defer close(sizes)
		for z := range s.Terminal.Resize { // closed with the session
			select {
			case sizes <- size(z):
			case <-ctx.Done():
			}
		}
	}()
	to.TTY, to.Size, to.Resize = true, size(s.Terminal.Size), sizes
	return to
}

// about is what anyone may know of the server.
func (p *parts) about(w http.ResponseWriter, _ *http.Request) error {
	return web.JSON(w, http.StatusOK, map[string]string{
		"name":    "sampan",
		"version": p.cfg.Version,
		"domain":  p.cfg.Domain,
		"ssh":     p.sshURL(),
	})
}

func (p *parts) signInLink(w http.ResponseWriter, r *http.Request) error {
	who := identity.Of(r)
	if who.ID == 0 {
		return fault.SignIn("a link is made by someone who is signed in").Try("send your token in the Authorization header")
	}
	code, err := p.identity.SignInCode(r.Context(), who)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusCreated, map[string]string{"url": p.webURL() + "/-/enter?code=" + code})
}
