package platform

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sampan.dev/sampan/apps/internal/logs"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

const consoleLines = 100

// Console runs the SSH commands of apps; handled is false for what is none.
func (p *Platform) Console(ctx context.Context, who identity.Who, args []string, s runner.Streams) (exit int, handled bool, err error) {
	if len(args) == 0 {
		return 0, false, nil
	}
	switch args[0] {
	case "run":
		exit, err = p.consoleRun(ctx, who, args[1:], s)
	case "logs":
		err = p.consoleLogs(ctx, who, args[1:], s.Stdout)
	case "ps":
		err = p.consolePs(ctx, who, args[1:], s.Stdout)
	default:
		return 0, false, nil
	}
	return exit, true, err
}

// consoleRun takes "APP [--] COMMAND…": one word is a line for the shell.
func (p *Platform) consoleRun(ctx context.Context, who identity.Who, args []string, s runner.Streams) (int, error) {
	if len(args) < 2 {
		return 0, fault.Invalid("run needs an app and a command").Try("for example: run hello -- env")
	}
	rest := args[1:]
	if rest[0] == "--" {
		rest = rest[1:]
	}
	exit, err := p.OneOff(ctx, who, args[0], strings.Join(rest, " "), s)
	return exit.Code, err
}

func (p *Platform) consoleLogs(ctx context.Context, who identity.Who, args []string, w io.Writer) error {
	if len(args) == 0 {
		return fault.Invalid("logs needs an app").Try("for example: logs hello -f")
	}
	o := logs.Options{Tail: consoleLines, Follow: len(args) > 1 && (args[1] == "-f" || args[1] == "--follow")}
	return p.Logs(ctx, who, args[0], o, func(l logs.Line) error {
		_, err := io.WriteString(w, l.Format(args[0])+"\n")
		return err
	})
}

func (p *Platform) consolePs(ctx context.Context, who identity.Who, args []string, w io.Writer) error {
	if len(args) != 1 {
		return fault.Invalid("ps needs an app").Try("for example: ps hello")
	}
	_, instances, err := p.Instances(ctx, who, args[0])
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, in := range instances {
		fmt.Fprintf(table, "%s.%d\tv%d\t%s\t%s\n", in.Process, in.Number, in.Release, in.State, in.Reason)
	}
	return table.Flush()
}
