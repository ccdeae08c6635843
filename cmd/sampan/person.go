package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sampan.dev/sampan/cmd/internal/client"
	"sampan.dev/sampan/internal/fault"
)

func loginCommand() *cobra.Command {
	var name, setup, email string
	var passwordStdin bool
	var keys []string
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Sign in to a server",
		Long: `Signs in to the server at URL and keeps a token for the commands that follow.

On a new server, --setup CODE makes the first person, who may do everything. The code is
in the link that "sampan serve" prints at its first start. --key adds an SSH public key,
so that git push works at once.`,
		Example: "  sampan login http://localhost:3000\n" +
			"  sampan login http://localhost:3000 --setup CODE --name ann --key ~/.ssh/id_ed25519.pub",
		Args: exactly("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := client.Dial(ctx, args[0], "")
			if err != nil {
				return err
			}
			in := bufio.NewReader(cmd.InOrStdin())
			if name == "" {
				if name, err = ask(cmd, in, "Name: "); err != nil {
					return err
				}
			}
			password, err := askPassword(cmd, in, passwordStdin)
			if err != nil {
				return err
			}
			if setup != "" {
				if email == "" {
					email = name + "@" + c.About().Domain
				}
				form := map[string]string{"username": name, "password": password, "email": email, "setup": setup}
				if err := c.Apps(ctx, "POST", "/v2/auth/register/", form, nil); err != nil {
					return err
				}
			}
			var answer struct{ Token string }
			if err := c.Apps(ctx, "POST", "/v2/auth/login/", map[string]string{"username": name, "password": password}, &answer); err != nil {
				return err
			}
			cred := client.Credentials{Server: c.Base(), Name: name, Token: answer.Token}
			if err := client.Save(cred); err != nil {
				return err
			}
			if c, err = client.Dial(ctx, cred.Server, cred.Token); err != nil {
				return err
			}
			for _, file := range keys {
				if err := addKey(ctx, c, file); err != nil {
					return err
				}
			}
			return show(cmd, map[string]string{"name": name, "server": cred.Server}, func(w io.Writer) {
				fmt.Fprintf(w, "Signed in to %s as %s.\n", cred.Server, name)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "your name there; asked for when missing")
	f.BoolVar(&passwordStdin, "password-stdin", false, "read the password from standard input")
	f.StringVar(&setup, "setup", "", "the code of the first-run link: makes the first person")
	f.StringVar(&email, "email", "", "with --setup: your mail address")
	f.StringArrayVar(&keys, "key", nil, "add this SSH public key `file`; may be repeated")
	return cmd
}

func ask(cmd *cobra.Command, in *bufio.Reader, prompt string) (string, error) {
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	line, err := in.ReadString('\n')
	line = strings.TrimSpace(line)
	if line == "" {
		return "", fault.Invalid("nothing was typed for %q", strings.TrimSuffix(prompt, ": ")).Try("give it as a flag: %s --help", cmd.CommandPath())
	}
	if err == io.EOF {
		err = nil
	}
	return line, err
}

func askPassword(cmd *cobra.Command, in *bufio.Reader, stdin bool) (string, error) {
	fd := int(os.Stdin.Fd())
	if stdin || !term.IsTerminal(fd) {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", fault.Invalid("standard input holds no password").Try("pipe it in, or type it in a terminal")
		}
		if err == io.EOF {
			err = nil
		}
		return line, err
	}
	fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(cmd.ErrOrStderr())
	return string(b), err
}

func logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Forget the sign-in of this machine",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := client.Forget(); err != nil {
				return err
			}
			return done(cmd, "Signed out.")
		},
	}
}

func whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Say who is signed in, and where",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			var me struct {
				Username string `json:"username"`
				Admin    bool   `json:"is_superuser"`
			}
			if err := c.Apps(cmd.Context(), "GET", "/v2/auth/whoami/", nil, &me); err != nil {
				return err
			}
			return show(cmd, map[string]any{"name": me.Username, "admin": me.Admin, "server": c.Base()}, func(w io.Writer) {
				fmt.Fprintf(w, "%s at %s\n", me.Username, c.Base())
			})
		},
	}
}

func linkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "link",
		Short: "Print a one-time link that signs your browser in",
		Long:  "Prints a link that signs a browser in as you. It works once, for ten minutes.",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			var link struct {
				URL string `json:"url"`
			}
			if err := c.Forge(cmd.Context(), "POST", "/-/sign-in-link", nil, &link); err != nil {
				return err
			}
			return show(cmd, link, func(w io.Writer) { fmt.Fprintln(w, link.URL) })
		},
	}
}

// A key as the controller API shows it.
type key struct {
	ID          string `json:"id"`
	Public      string `json:"public"`
	Fingerprint string `json:"fingerprint"`
	Created     string `json:"created"`
}

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "List, add and remove your SSH keys", Args: exactly()}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, err := dial(cmd.Context())
		if err != nil {
			return err
		}
		var list struct{ Results []key }
		if err := c.Apps(cmd.Context(), "GET", "/v2/keys/", nil, &list); err != nil {
			return err
		}
		return show(cmd, list.Results, func(w io.Writer) {
			if len(list.Results) == 0 {
				fmt.Fprintln(w, "No keys yet. Add one with: sampan keys add ~/.ssh/id_ed25519.pub")
				return
			}
			row(w, "NAME", "FINGERPRINT", "ADDED")
			for _, k := range list.Results {
				row(w, k.ID, k.Fingerprint, k.Created)
			}
		})
	}
	cmd.AddCommand(&cobra.Command{
		Use: "add FILE", Short: "Add an SSH public key", Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			if err := addKey(cmd.Context(), c, args[0]); err != nil {
				return err
			}
			return done(cmd, "Added "+args[0]+".")
		},
	}, &cobra.Command{
		Use: "remove NAME", Short: "Remove an SSH public key", Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.Apps(cmd.Context(), "DELETE", "/v2/keys/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return done(cmd, "Removed "+args[0]+".")
		},
	})
	return cmd
}

func addKey(ctx context.Context, c *client.Client, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fault.Invalid("cannot read the key: %w", err).Try("name the public key, which ends in .pub; make one with: ssh-keygen -t ed25519")
	}
	if strings.Contains(string(text), "PRIVATE KEY") {
		return fault.Invalid("%s is a private key", file).Try("name the public one: %s.pub", file)
	}
	line := strings.TrimSpace(string(text))
	name := strings.TrimSuffix(filepath.Base(file), ".pub")
	if fields := strings.Fields(line); len(fields) > 2 {
		name = fields[2]
	}
	return c.Apps(ctx, "POST", "/v2/keys/", map[string]string{"id": name, "public": line}, nil)
}

// exactly is cobra.ExactArgs with the names of what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fault.Invalid("%s is missing", strings.Join(names[len(args):], " and ")).Try("see: %s --help", cmd.CommandPath())
		case len(args) > len(names):
			return fault.Invalid("%q is one word too many", args[len(names)]).Try("see: %s --help", cmd.CommandPath())
		}
		return nil
	}
}
