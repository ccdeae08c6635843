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
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "sampan-init: %v\n", err)
		os.Exit(1)
	}
}
