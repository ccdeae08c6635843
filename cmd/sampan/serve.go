package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"sampan.dev/sampan/cmd/internal/settings"
	"sampan.dev/sampan/server"
)

func serveCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Runs the server until it gets SIGINT or SIGTERM. Everything it keeps lies in the data
directory. Apps go on running when the server stops, and are taken over when it starts.

Every flag can also be set in the environment (--kv-client is SAMPAN_KV_CLIENT) or in
DATA/sampan.toml (kv.client is the key client of the table [kv]).`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := settings.Read(cmd.Flags(), settings.Environ)
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			config.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			config.Version = version
			return serve(cmd, config)
		},
	}
	settings.Flags(cmd.Flags())
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

func serve(cmd *cobra.Command, config server.Config) error {
	ctx := cmd.Context()
	s, err := server.Open(ctx, config)
	if err != nil {
		return err
	}
	hello, err := s.Hello(ctx)
	if err != nil {
		s.Close()
		return err
	}
	fmt.Fprint(cmd.OutOrStdout(), hello)
	err = s.Run(ctx)
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}
