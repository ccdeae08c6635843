package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"sampan.dev/sampan/forge/internal/git"
	"sampan.dev/sampan/forge/internal/push"
	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/forge/internal/sshd"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// Exit statuses of SSH commands: git's own for a refusal, and a shell's.
const (
	exitRefused = 128
	exitUnknown = 127
)

// find looks up what a git client calls by a path, on both doors.
func (f *Forge) find(ctx context.Context, who identity.Who, path string, write bool) (push.Target, error) {
	owner, name, err := repo.ParsePath(path)
	if err != nil {
		return push.Target{}, err
	}
	if owner == "" {
		return f.findRemote(ctx, who, name, write)
	}
	act := identity.View
	if write {
		act = identity.Write
	}
	r, err := f.repos.Find(ctx, who, act, owner, name)
	if err != nil {
		return push.Target{}, err
	}
	return push.Target{Git: f.repos.Git(r.ID), ID: r.ID, Path: r.Path(), Default: r.Default}, nil
}

func (f *Forge) findRemote(ctx context.Context, who identity.Who, name string, write bool) (push.Target, error) {
	if f.remotes == nil {
		return push.Target{}, fault.NotFound("no such repository: %s", name).Try("the address is OWNER/NAME.git")
	}
	remote, err := f.remotes(ctx, who, name, write)
	if err != nil {
		return push.Target{}, err
	}
	return push.Target{Git: f.git.At(remote.Dir), Path: name, Gate: remote.Gate}, nil
}

func (f *Forge) openSSH(ctx context.Context, key string) (err error) {
	f.ssh, err = sshd.Open(ctx, sshd.Config{
		Addr: f.cfg.SSHAddr, Key: key, Log: f.cfg.Log,
		Who: func(ctx context.Context, key []byte) (identity.Who, error) {
			who, _, err := f.cfg.Identity.ByKey(ctx, key)
			return who, err
		},
		Run: f.command,
	})
	return err
}

// command runs one SSH command and tells its exit status.
func (f *Forge) command(ctx context.Context, s *sshd.Session) int {
	args, err := sshd.Split(s.Command)
	if err != nil {
		fmt.Fprintf(s.Err, "Sampan: %v\n", err)
		return exitUnknown
	}
	if len(args) == 0 {
		f.greet(s)
		return 0
	}
	if len(args) > 1 && args[0] == "git" {
		args = append([]string{"git-" + args[1]}, args[2:]...) // "git upload-pack" is an old spelling
	}
	switch service := git.Service(args[0]); service {
	case git.UploadPack, git.ReceivePack, git.UploadArchive:
		return f.failed(ctx, s, f.gitCommand(ctx, s, service, args[1:]))
	}
	return f.console(ctx, s, args)
}

// greet answers `ssh git@host`: it is how people try whether their key works.
func (f *Forge) greet(s *sshd.Session) {
	text := fmt.Sprintf("Hi %s, you are signed in. Sampan gives no shell; use git, for instance:\n\n  git clone %s\n",
		s.Who.Name, f.exampleURL(s.Who.Name))
	if s.Terminal != nil {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	io.WriteString(s.Out, text)
}

func (f *Forge) exampleURL(name string) string {
	ssh, _ := f.cloneURLs(name + "/hello")
	return ssh
}

// gitCommand serves git. The path is its only argument.
func (f *Forge) gitCommand(ctx context.Context, s *sshd.Session, service git.Service, args []string) error {
	if len(args) != 1 {
		return fault.Invalid("%s takes one argument, the repository", service)
	}
	target, err := f.find(ctx, s.Who, args[0], service == git.ReceivePack)
	if err != nil {
		return err
	}
	if service != git.ReceivePack {
		return target.Git.Serve(ctx, service, git.Streams{In: s.In, Out: s.Out, Err: s.Err}, git.ServeOptions{Protocol: s.Protocol})
	}
	refs, err := target.Git.AdvertisePush(ctx, "sampan")
	if err != nil {
		return err
	}
	if _, err := s.Out.Write(refs); err != nil {
		return err
	}
	return f.pushes.Receive(ctx, s.Who, target, s.In, s.Out)
}

// console offers the command to the parts that have some.
func (f *Forge) console(ctx context.Context, s *sshd.Session, args []string) int {
	for _, c := range f.consoles {
		exit, handled, err := c(ctx, s.Who, args, Streams{In: s.In, Out: s.Out, Err: s.Err, Terminal: s.Terminal})
		if err != nil {
			return f.failed(ctx, s, err)
		}
		if handled {
			return exit
		}
	}
	fmt.Fprintf(s.Err, "Sampan: there is no command %q here; this door is for git\n", args[0])
	return exitUnknown
}

// failed tells the client why, and turns an error into an exit status.
func (f *Forge) failed(ctx context.Context, s *sshd.Session, err error) int {
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		return exitRefused // nobody listens any more
	}
	var ce *git.CommandError
	if errors.As(err, &ce) {
		f.cfg.Log.Info("git client turned away", "who", s.Who.Name, "command", s.Command, "err", err)
		return exitRefused // git has told the client itself
	}
	fl, ok := fault.Of(err)
	if !ok {
		f.cfg.Log.Error("SSH command failed", "who", s.Who.Name, "command", s.Command, "err", err)
		fl = fault.Unavailable("something went wrong on the server").Try("ask an administrator to look into the log")
	}
	fmt.Fprintf(s.Err, "Sampan: %s\n", fl.Error())
	return exitRefused
}
