package main

import (
	"errors"
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

func deployCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use:   "deploy",
		Short: "Build and release the newest commit of an app's branch again",
		Long: `Builds the newest commit of the branch that the app follows, releases it, and shows the
output as it comes. A push does the same by itself.`,
		Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			out, err := c.Stream(cmd.Context(), "POST", appPath(name, "deploy"), nil)
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = io.Copy(cmd.OutOrStdout(), out)
			return err
		}),
	})
}

func logsCommand() *cobra.Command {
	var follow bool
	var lines int
	var process string
	cmd := appFlag(&cobra.Command{
		Use: "logs", Short: "Show the log of an app",
		Example: "  sampan logs -f -a hello\n  sampan logs -n 500 --process worker",
		Args:    exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			q := url.Values{"log_lines": {strconv.Itoa(lines)}}
			if follow {
				q.Set("follow", "1")
			}
			if process != "" {
				q.Set("process", process)
			}
			out, err := c.Stream(cmd.Context(), "GET", appPath(name, "logs?"+q.Encode()), nil)
			if err != nil {
				return err
			}
			defer out.Close()
			_, err = io.Copy(cmd.OutOrStdout(), out)
			if cmd.Context().Err() != nil {
				return nil // Ctrl-C is how one stops following
			}
			return err
		}),
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the lines that come")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many lines to begin with")
	cmd.Flags().StringVar(&process, "process", "", "only this process")
	return cmd
}

type appConfig struct {
	Values map[string]string `json:"values"`
}

func configCommand() *cobra.Command {
	cmd := appFlag(&cobra.Command{
		Use: "config", Short: "List, set and unset the configuration of an app", Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			var config appConfig
			if err := c.Apps(cmd.Context(), "GET", appPath(name, "config/"), nil, &config); err != nil {
				return err
			}
			return show(cmd, config.Values, func(w io.Writer) {
				for _, k := range slices.Sorted(maps.Keys(config.Values)) {
					fmt.Fprintf(w, "%s=%s\n", k, config.Values[k])
				}
			})
		}),
	})
	set := func(cmd *cobra.Command, c *client.Client, name string, values map[string]any) error {
		var config appConfig
		if err := c.Apps(cmd.Context(), "POST", appPath(name, "config/"), map[string]any{"values": values}, &config); err != nil {
			return err
		}
		return show(cmd, config.Values, func(w io.Writer) {
			fmt.Fprintf(w, "Released %s with the new configuration.\n", name)
		})
	}
	cmd.AddCommand(appFlag(&cobra.Command{
		Use: "set KEY=VALUE…", Short: "Set values; makes a release", Args: cobra.MinimumNArgs(1),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			values := map[string]any{}
			for _, arg := range args {
				k, v, ok := strings.Cut(arg, "=")
				if !ok {
					return fault.Invalid("%q is not KEY=VALUE", arg)
				}
				values[k] = v
			}
			return set(cmd, c, name, values)
		}),
	}), appFlag(&cobra.Command{
		Use: "unset KEY…", Short: "Remove values; makes a release", Args: cobra.MinimumNArgs(1),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			values := map[string]any{}
			for _, k := range args {
				values[k] = nil
			}
			return set(cmd, c, name, values)
		}),
	}))
	return cmd
}

func releasesCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use: "releases", Short: "List the releases of an app", Args: exactly(),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, _ []string) error {
			type release struct {
				Version int    `json:"version"`
				Summary string `json:"summary"`
				Owner   string `json:"owner"`
				Failed  bool   `json:"failed"`
				Created string `json:"created"`
			}
			var list results[release]
			if err := c.Apps(cmd.Context(), "GET", appPath(name, "releases/"), nil, &list); err != nil {
				return err
			}
			return show(cmd, list.Results, func(w io.Writer) {
				row(w, "RELEASE", "WHEN", "WHAT")
				for _, r := range list.Results {
					what := r.Summary
					if r.Failed {
						what += " (failed)"
					}
					row(w, "v"+strconv.Itoa(r.Version), r.Created, what)
				}
			})
		}),
	})
}

func rollbackCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use: "rollback [RELEASE]", Short: "Make a new release with an earlier build and configuration",
		Example: "  sampan rollback -a hello      the release before\n  sampan rollback v4 -a hello",
		Args:    cobra.MaximumNArgs(1),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			form := map[string]int{}
			if len(args) == 1 {
				n, err := strconv.Atoi(strings.TrimPrefix(args[0], "v"))
				if err != nil {
					return fault.Invalid("%q is not a release", args[0]).Try("see: sampan releases -a %s", name)
				}
				form["version"] = n
			}
			var made struct {
				Version int `json:"version"`
			}
			if err := c.Apps(cmd.Context(), "POST", appPath(name, "releases/rollback/"), form, &made); err != nil {
				return err
			}
			return show(cmd, made, func(w io.Writer) { fmt.Fprintf(w, "Released v%d.\n", made.Version) })
		}),
	})
}

func runCommand() *cobra.Command {
	return appFlag(&cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG…]",
		Short: "Run a command in the newest release of an app",
		Long: `Runs one command in a fresh instance of the newest release, and ends with its status. At a
terminal it is interactive, through your ssh client; otherwise its output is shown when it
has ended.`,
		Example: "  sampan run -a shop -- npm run migrate\n  sampan run -a shop -- /bin/sh",
		Args:    cobra.MinimumNArgs(1),
		RunE: onApp(func(cmd *cobra.Command, c *client.Client, name string, args []string) error {
			if isTerminal(os.Stdin) && isTerminal(os.Stdout) {
				return runInteractively(cmd, c, name, args)
			}
			var done struct {
				Exit   int    `json:"exit_code"`
				Output string `json:"output"`
			}
			form := map[string]string{"command": shellJoin(args)}
			if err := c.Apps(cmd.Context(), "POST", appPath(name, "run"), form, &done); err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), done.Output)
			if done.Exit != 0 {
				return exitCode(done.Exit)
			}
			return nil
		}),
	})
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func runInteractively(cmd *cobra.Command, c *client.Client, name string, args []string) error {
	u, err := url.Parse(c.About().SSH)
	if err != nil {
		return err
	}
	ssh := exec.CommandContext(cmd.Context(), "ssh", "-t", "-p", u.Port(), u.User.Username()+"@"+u.Hostname(),
		"run", name, "--", shellQuote(shellJoin(args)))
	ssh.Stdin, ssh.Stdout, ssh.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = ssh.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exitCode(exit.ExitCode())
	case errors.Is(err, exec.ErrNotFound):
		return fault.Unavailable("an interactive command needs an ssh client, and there is none").Try("install openssh-client")
	}
	return err
}

// shellJoin quotes words for a POSIX shell. One word is taken as it is: it may be a whole
// command line.
func shellJoin(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	quoted := make([]string, len(args))
	for i, a := range args {
		if a != "" && strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+") == "" {
			quoted[i] = a
		} else {
			quoted[i] = shellQuote(a)
		}
	}
	return strings.Join(quoted, " ")
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
