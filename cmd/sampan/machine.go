package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sampan.dev/sampan/cmd/internal/settings"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/server"
)

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and what to do so that it can more",
		Long: `Tries what the server needs of this machine, one line each: what is possible, what is
not, and the remedy. It changes nothing. Exit status 1 means that containers cannot run.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := server.Examine(cmd.Context())
			err := show(cmd, d, func(w io.Writer) {
				for _, c := range d.Checks {
					mark := "ok"
					if !c.OK {
						mark = "--"
					}
					row(w, mark, c.Name, c.Detail)
					if !c.OK && c.Remedy != "" {
						row(w, "", "", "remedy: "+c.Remedy)
					}
				}
				fmt.Fprintf(w, "\n%s\n", d.Verdict)
			})
			if err == nil && !d.Containers {
				return exitCode(1)
			}
			return err
		},
	}
}

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that cannot be made again to a file",
		Long: `Writes records, repositories, keys and intentions to FILE, a tar archive compressed with
zstd; "-" is standard output. The server may run meanwhile. The file holds the key of all
secrets: keep it as you would keep them. Images are not in it; they are built again.`,
		Example: "  sampan backup --data /srv/sampan sampan.tar.zst",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := settings.Read(cmd.Flags(), settings.Environ)
			if err != nil {
				return err
			}
			config.Version = version
			if args[0] == "-" {
				return server.Backup(cmd.Context(), config, cmd.OutOrStdout())
			}
			size, err := writeWhole(args[0], func(w io.Writer) error { return server.Backup(cmd.Context(), config, w) })
			if err != nil {
				return err
			}
			return show(cmd, map[string]any{"file": args[0], "bytes": size}, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %s (%d kB).\n", args[0], (size+999)/1000)
			})
		},
	}
	settings.Flags(cmd.Flags())
	return cmd
}

// writeWhole gives a file its name when it is complete and on the disk, not before.
func writeWhole(file string, write func(io.Writer) error) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(file), ".sampan-backup-")
	if err != nil {
		return 0, fault.Invalid("%s cannot be written: %w", file, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(f.Name(), file)
}

func restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "restore FILE",
		Short:   "Fill an empty data directory from a backup",
		Long:    `Fills the data directory, which must be empty, from what "sampan backup" wrote; "-" is standard input.`,
		Example: "  sampan restore --data /srv/sampan sampan.tar.zst",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := settings.Read(cmd.Flags(), settings.Environ)
			if err != nil {
				return err
			}
			from := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fault.Invalid("the backup cannot be read: %w", err)
				}
				defer f.Close()
				from = f
			}
			m, err := server.Restore(cmd.Context(), config, from)
			if err != nil {
				return err
			}
			return show(cmd, m, func(w io.Writer) {
				fmt.Fprintf(w, "Restored %s from the backup of %s. Start it with: sampan serve --data %s\n",
					config.Data, m.Made.Local().Format("2 January 2006 15:04"), config.Data)
			})
		},
	}
	settings.Flags(cmd.Flags())
	return cmd
}

func stopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the apps that a stopped server left running",
		Long: `Stops every app of a data directory whose server does not run, and what watches over
them. The apps start again with the server. Use it before a machine goes down for good.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := settings.Read(cmd.Flags(), settings.Environ)
			if err != nil {
				return err
			}
			n, err := server.StopApps(cmd.Context(), config)
			if err != nil {
				return err
			}
			return show(cmd, map[string]int{"stopped": n}, func(w io.Writer) { fmt.Fprintf(w, "Stopped %d instances.\n", n) })
		},
	}
	settings.Flags(cmd.Flags())
	return cmd
}
