// Command sampan is the server of a team and the client of it: it hosts the code, builds
// it, runs it and shows it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sampan.dev/sampan/cmd/internal/client"
	"sampan.dev/sampan/forge"
	"sampan.dev/sampan/internal/fault"
)

// version is set by the linker.
var version = "dev"

func main() {
	forge.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// exitCode is the status of a program that ran elsewhere, to be ours.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	var exit exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintf(errs, "sampan: %v\n", err)
	if fault.Is(err, fault.KindInvalid) || strings.HasPrefix(err.Error(), "unknown command") { // cobra's own
		return 2
	}
	return 1
}

const about = `Sampan hosts the code of a team, builds it, runs it and shows it: one program.

On a machine of yours:   sampan serve
From where you work:     sampan login http://HOST:3000
                         sampan apps create hello
                         git push sampan main

Settings of the server come from flags, then SAMPAN_… in the environment, then
DATA/sampan.toml. The client keeps its sign-in in the configuration directory of the
person (SAMPAN_CONFIG names another file); SAMPAN_SERVER and SAMPAN_TOKEN go before it.

Exit status: 0 done, 1 failed, 2 the command or its input is wrong; "sampan run" ends
with the status of the program that it ran.`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "sampan",
		Short:         "A whole back end for a team, in one program",
		Long:          about,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("sampan {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.Invalid("%w", err).Try("see: %s --help", c.CommandPath())
	})
	root.PersistentFlags().Bool("json", false, "print JSON instead of tables")
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "The server:"},
		&cobra.Group{ID: "person", Title: "You and your code:"},
		&cobra.Group{ID: "app", Title: "Apps:"},
	)
	group := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	group("server", serveCommand(), doctorCommand(), stopCommand(), backupCommand(), restoreCommand())
	group("person", loginCommand(), logoutCommand(), whoamiCommand(), linkCommand(), repoCommand(), keysCommand())
	group("app", appsCommand(), deployCommand(), psCommand(), logsCommand(), configCommand(), scaleCommand(),
		restartCommand(), releasesCommand(), rollbackCommand(), runCommand(), domainsCommand())
	return root
}

// dial connects as the person who is signed in.
func dial(ctx context.Context) (*client.Client, client.Credentials, error) {
	cred, err := client.Load()
	if err != nil {
		return nil, cred, err
	}
	c, err := client.Dial(ctx, cred.Server, cred.Token)
	return c, cred, err
}

// show prints v as JSON when asked for, otherwise as the table that text writes.
func show(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	out := cmd.OutOrStdout()
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// done tells that something was done that answers nothing.
func done(cmd *cobra.Command, text string) error {
	return show(cmd, map[string]string{"done": text}, func(w io.Writer) { fmt.Fprintln(w, text) })
}

// row prints the cells of one line of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}
