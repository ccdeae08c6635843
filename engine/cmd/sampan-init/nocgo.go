//go:build !cgo

package main

import (
	"fmt"
	"os"
)

// Without cgo nothing can run between the birth of a process and that of its Go runtime.
func main() {
	fmt.Fprintln(os.Stderr, "sampan-init: this program was built without cgo and cannot work; build it with `make build`")
	os.Exit(1)
}
