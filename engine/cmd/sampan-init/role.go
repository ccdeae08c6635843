//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before Go begins

	"sampan.dev/sampan/engine/internal/supervisor/daemon"
)

func run(args []string) error {
	if len(args) > 0 && args[0] == "init" {
		libcontainer.Init() // does not return
	}
	if len(args) != 4 {
		return errors.New("this program is started by `sampan serve` and does nothing alone")
	}
	cfg := daemon.Config{Dir: args[1], Cgroup: args[2], Program: args[3]}
	switch args[0] {
	case "start":
		return daemon.Spawn(cfg)
	case "serve":
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		return daemon.Serve(context.Background(), cfg)
	}
	return fmt.Errorf("there is no role %q", args[0])
}
