//go:build cgo

package main

// stub.c is compiled into the program by cgo; its constructor runs before Go begins.

import "C"
