package golang

import (
	"regexp"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// compileError is a line as the compiler prints it: main.go:7:2: undefined: x
var compileError = regexp.MustCompile(`^(\S+\.go:\d+(?::\d+)?: .+)$`)

// explain turns a failed go build and its last lines into what a person can act on.
func explain(err error, last []string) error {
	text := strings.Join(last, "\n")
	for _, c := range []struct{ sign, try string }{
		{"missing go.sum entry", "run go mod tidy and commit go.sum"},
		{"updates to go.mod needed", "run go mod tidy and commit go.mod and go.sum"},
		{"no required module provides package", "run go mod tidy and commit go.mod and go.sum"},
		{"inconsistent vendoring", "run go mod vendor and commit vendor/"},
		{"checksum mismatch", "somebody changed a published version; compare go.sum with a copy that you trust"},
		{"C source files not allowed", "programs are built without cgo; use a Dockerfile for C code"},
		{"build constraints exclude all Go files", "a package needs cgo or another system; use a Dockerfile for C code"},
		{"requires go >=", "raise the go line of go.mod to what the dependency asks"},
		{"no space left on device", "free disk space on the server"},
	} {
		if i := strings.Index(text, c.sign); i >= 0 {
			return fault.Invalid("go build failed: %s", lineAt(text, i)).Try("%s", c.try)
		}
	}
	for _, line := range last {
		if m := compileError.FindString(strings.TrimSpace(line)); m != "" {
			return fault.Invalid("the program does not compile: %s", m).Try("correct it, commit and push again")
		}
	}
	return fault.Invalid("go build failed: %w", err).Try("read what it printed above")
}

func lineAt(text string, i int) string {
	from := strings.LastIndexByte(text[:i], '\n') + 1
	line, _, _ := strings.Cut(text[from:], "\n")
	return strings.TrimSpace(line)
}
