package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sampan.dev/sampan/cmd/internal/client"
	"sampan.dev/sampan/internal/fault"
)

// An app as the controller API shows it.
type app struct {
	ID        string         `json:"id"`
	Owner     string         `json:"owner"`
	Structure map[string]int `json:"structure"`
	Created   string         `json:"created"`
	URL       string         `json:"url,omitempty"`
	Source    string         `json:"source,omitempty"`
	Branch    string         `json:"branch,omitempty"`
}

// results is a list of the controller API.
type results[T any] struct {
	Results []T `json:"results"`
}

// appFlag adds --app; the default is the app that the folder's git remotes push to.
func appFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringP("app", "a", "", "the app; default: the one that the git remote \"sampan\" of this folder names")
	_ = cmd.RegisterFlagCompletionFunc("app", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, _, err := dial(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var list results[app]
		if c.Apps(cmd.Context(), "GET", "/v2/apps/", nil, &list) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, a := range list.Results {
			names = append(names, a.ID)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// onApp makes a command's work on the app that --app or the folder names.
func onApp(work func(cmd *cobra.Command, c *client.Client, app string, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		name, _ := cmd.Flags().GetString("app")
		if name == "" {
			name = appOfFolder(cmd.Context())
		}
		if name == "" {
			return fault.Invalid("no app is named").Try("name it with --app NAME, or run this in a folder whose git remote \"sampan\" is the app's")
		}
		c, _, err := dial(cmd.Context())
		if err != nil {
			return err
		}
		return work(cmd, c, name, args)
	}
}

// appOfFolder reads the app's name off the git remote "sampan": ssh://git@HOST/APP.git.
func appOfFolder(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "remote", "get-url", "sampan").Output()
	if err != nil {
		return ""
	}
	u, err := url.Parse(strings.TrimSpace(string(out)))
	if err != nil {
		return ""
	}
	name := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if strings.Contains(name, "/") {
		return ""
	}
	return name
}

func appPath(name string, rest string) string { return "/v2/apps/" + url.PathEscape(name) + "/" + rest }

func appsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "apps", Short: "List, create, inspect and destroy apps", Args: exactly()}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, err := dial(cmd.Context())
		if err != nil {
			return err
		}
		var list results[app]
		if err := c.Apps(cmd.Context(), "GET", "/v2/apps/", nil, &list); err != nil {
			return err
		}
		return show(cmd, list.Results, func(w io.Writer) {
			if len(list.Results) == 0 {
				fmt.Fprintln(w, "No apps yet. Create one with: sampan apps create NAME")
				return
			}
			row(w, "APP", "OWNER", "PROCESSES", "URL")
			for _, a := range list.Results {
				row(w, a.ID, a.Owner, formation(a.Structure), a.URL)
			}
		})
	}
	cmd.AddCommand(appsCreateCommand(), appsInfoCommand(), appsDestroyCommand())
	return cmd
}

func formation(structure map[string]int) string {
	var parts []string
	for _, process := range slices.Sorted(maps.Keys(structure)) {
		parts = append(parts, fmt.Sprintf("%s=%d", process, structure[process]))
	}
	return strings.Join(parts, " ")
}

func appsCreateCommand() *cobra.Command {
	var repo, branch string
	var noRemote bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an app",
		Long: `Creates an app. Without --repo it gets a git remote of its own: in a git folder that
becomes the remote "sampan", and "git push sampan main" builds and deploys. With --repo
every push to that repository's branch deploys.`,
		Example: "  sampan apps create hello\n  sampan apps create shop --repo ann/shop --branch main",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := dial(cmd.Context())
			if err != nil {
				return err
			}
			var a app
			if err := c.Apps(cmd.Context(), "POST", "/v2/apps/", map[string]string{"id": args[0]}, &a); err != nil {
				return err
			}
			if repo != "" {
				source := map[string]string{"repository": repo, "branch": branch}
				if err := c.Apps(cmd.Context(), "POST", appPath(a.ID, "source"), source, nil); err != nil {
					return err
				}
			}
			remote := strings.TrimSuffix(c.About().SSH, "/") + "/" + a.ID + ".git"
			added := repo == "" && !noRemote && addRemote(cmd.Context(), remote)
			return show(cmd, a, func(w io.Writer) {
				switch {
				case repo != "":
					fmt.Fprintf(w, "Created %s. Every push to %s of %s deploys it.\n", a.ID, branch, repo)
				case added:
					fmt.Fprintf(w, "Created %s, and the git remote \"sampan\" here. Deploy with: git push sampan main\n", a.ID)
				default:
					fmt.Fprintf(w, "Created %s. Deploy with:\n\n  git remote add sampan %s\n  git push sampan main\n", a.ID, remote)
				}
			})
		},
	}
	cmd.Flags().StringVar(&repo, "repo", "", "deploy pushes to this repository, `OWNER/NAME`")
	cmd.Flags().StringVar(&branch, "branch", "main", "with --repo: the branch that deploys")
	cmd.Flags().BoolVar(&noRemote, "no-remote", false, "leave the git remotes of this folder alone")
	return cmd
}

// addRemote adds the remote "sampan" when this folder is a git work tree that has none.
func addRemote(ctx context.Context, remote string) bool {
	if _, err := os.Stat(".git"); err != nil {
		return false
	}
	return exec.CommandContext(ctx, "git", "remote", "add", "sampan", remote).Run() == nil
}

func appsInfoCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use: "info", Short: "Show an app", Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			var a app
			if err := c.Apps(cmd.Context(), "GET", appPath(name, ""), nil, &a); err != nil {
				return err
			}
			return show(cmd, a, func(w io.Writer) {
				row(w, "app", a.ID)
				row(w, "owner", a.Owner)
				row(w, "url", a.URL)
				row(w, "processes", formation(a.Structure))
				if a.Source != "" {
					row(w, "source", a.Source+" "+a.Branch)
				}
				row(w, "created", a.Created)
			})
		}),
	})
}

func appsDestroyCommand() *cobra.Command {
	var confirm string
	cmd := appFlag(&cobra.Command{
		Use: "destroy", Short: "Destroy an app, its releases and its containers", Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			if confirm != name {
				return fault.Invalid("this destroys %s with its releases and configuration", name).Try("repeat with: --confirm %s", name)
			}
			if err := c.Apps(cmd.Context(), "DELETE", appPath(name, ""), nil, nil); err != nil {
				return err
			}
			return done(cmd, "Destroyed "+name+".")
		}),
	})
	cmd.Flags().StringVar(&confirm, "confirm", "", "the app's name again")
	return cmd
}

// A pod is what the controller API calls an instance.
type pod struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Release string `json:"release"`
	State   string `json:"state"`
	Started string `json:"started"`
}

func psCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use: "ps", Short: "List the running instances of an app", Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			var list results[pod]
			if err := c.Apps(cmd.Context(), "GET", appPath(name, "pods/"), nil, &list); err != nil {
				return err
			}
			return show(cmd, list.Results, func(w io.Writer) {
				if len(list.Results) == 0 {
					fmt.Fprintf(w, "Nothing of %s is running. Deploy it with git push, or start it with: sampan scale web=1 -a %s\n", name, name)
					return
				}
				row(w, "INSTANCE", "PROCESS", "RELEASE", "STATE", "STARTED")
				for _, p := range list.Results {
					row(w, p.Name, p.Type, p.Release, p.State, p.Started)
				}
			})
		}),
	})
}

func scaleCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use: "scale PROCESS=COUNT…", Short: "Set how many instances of each process run",
		Example: "  sampan scale web=2 worker=1 -a hello",
		Args:    cobra.MinimumNArgs(1),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			want := map[string]int{}
			for _, arg := range args {
				process, count, _ := strings.Cut(arg, "=")
				n, err := strconv.Atoi(count)
				if err != nil || n < 0 || process == "" {
					return fault.Invalid("%q is not PROCESS=COUNT", arg).Try("for example: web=2")
				}
				want[process] = n
			}
			if err := c.Apps(cmd.Context(), "POST", appPath(name, "scale/"), want, nil); err != nil {
				return err
			}
			return show(cmd, want, func(w io.Writer) { fmt.Fprintf(w, "Scaled %s to %s.\n", name, formation(want)) })
		}),
	})
}

func restartCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use: "restart [PROCESS]", Short: "Restart an app's instances, new ones first", Args: cobra.MaximumNArgs(1),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			rest := "pods/restart/"
			if len(args) == 1 {
				rest = "pods/" + url.PathEscape(args[0]) + "/restart/"
			}
			var fresh []pod
			if err := c.Apps(cmd.Context(), "POST", appPath(name, rest), nil, &fresh); err != nil {
				return err
			}
			return show(cmd, fresh, func(w io.Writer) { fmt.Fprintf(w, "Restarted %d instances of %s.\n", len(fresh), name) })
		}),
	})
}

func domainsCommand() *cobra.Command {
	type domain struct {
		Domain  string `json:"domain"`
		Created string `json:"created"`
	}
	cmd := appFlag(&cobra.Command{
		Use: "domains", Short: "List, add and remove the domains of an app", Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			var list results[domain]
			if err := c.Apps(cmd.Context(), "GET", appPath(name, "domains/"), nil, &list); err != nil {
				return err
			}
			return show(cmd, list.Results, func(w io.Writer) {
				for _, d := range list.Results {
					fmt.Fprintln(w, d.Domain)
				}
			})
		}),
	})
	cmd.AddCommand(appFlag(&cobra.Command{
		Use: "add DOMAIN", Short: "Serve the app on a domain", Args: exactly("DOMAIN"),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			var d domain
			if err := c.Apps(cmd.Context(), "POST", appPath(name, "domains/"), map[string]string{"domain": args[0]}, &d); err != nil {
				return err
			}
			return show(cmd, d, func(w io.Writer) { fmt.Fprintf(w, "%s is served on %s, once its name points here.\n", name, d.Domain) })
		}),
	}), appFlag(&cobra.Command{
		Use: "remove DOMAIN", Short: "Stop serving the app on a domain", Args: exactly("DOMAIN"),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			if err := c.Apps(cmd.Context(), "DELETE", appPath(name, "domains/"+url.PathEscape(args[0])), nil, nil); err != nil {
				return err
			}
			return done(cmd, name+" is not served on "+args[0]+" any more.")
		}),
	}))
	return cmd
}
