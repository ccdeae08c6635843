//go:build !cgo

package main

import "errors"

// Without cgo nothing can run between the birth of a process and that of its Go runtime.
func run([]string) error {
	return errors.New("this program was built without cgo and cannot work; build it with `make build`")
}
