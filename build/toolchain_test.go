package build_test

import (
	"strings"
	"testing"
)

// A release that the machine does not have comes from the module proxy.
func TestFetchedToolchain(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches a Go release")
	}
	p := inContainers(t)
	dir := tree(t, map[string]string{
		"go.mod": "module example.com/old\n\ngo 1.25\n\ntoolchain go1.25.1\n",
		"main.go": `package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
)

func main() {
	http.ListenAndServe(":"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, runtime.Version())
	}))
}
`})
	r, out, err := p.build(t, dir, p.scope(t), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "go.mod at the root names go1.25.1") {
		t.Error("the toolchain is not named")
	}
	if got := p.fetch(t, r); got != "go1.25.1" {
		t.Errorf("built with %s", got)
	}
}
