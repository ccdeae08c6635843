//go:build cgo

// Command sampan-init runs the containers of one engine directory and outlives the server.
//
// It is one program in four roles, told apart by its first argument:
//
//	start DIR CGROUP PATH   starts a sealed copy of itself as "serve" and returns when that is ready
//	serve DIR CGROUP PATH   the supervisor (package daemon); PATH is where it came from
//	init                    the first moments of a process in a container (libcontainer)
//	exec PROGRAM …          the last moment before the program (stub.c, before Go begins)
//
// The server runs the first one only; see package supervisor.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before Go begins

	"sampan.dev/sampan/engine/internal/supervisor/daemon"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init() // does not return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "sampan-init: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("this program is started by sampan serve; see sampan help")
	}
	cfg := daemon.Config{Dir: args[1], Cgroup: args[2], Program: args[3]}
	switch args[0] {
	case "start":
		return daemon.Spawn(cfg)
	case "serve":
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		// A terminal's Ctrl-C is for the server; containers end when they are told to.
		signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
		return daemon.Serve(context.Background(), cfg)
	}
	return fmt.Errorf("there is no role %q", args[0])
}
