package forge_test

import (
	"fmt"
	"testing"

	"sampan.dev/sampan/internal/identity"
)

// BenchmarkPush is a push of one small commit with the real client, by its way: what the
// doors cost is the difference to the push into a directory, where the client starts git
// itself.
func BenchmarkPush(b *testing.B) {
	s := serve(b)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Private)
	dir := ann.work()
	bare := b.TempDir()
	ann.git(bare, "init", "-q", "--bare")
	n := 0
	for _, way := range []struct{ name, url string }{
		{"directory", bare},
		{"ssh", ann.sshURL("ann/hello")},
		{"http", ann.httpURL("ann", "ann/hello")},
	} {
		b.Run(way.name, func(b *testing.B) {
			ann.git(dir, "push", "-q", "-f", way.url, "main")
			for b.Loop() {
				b.StopTimer()
				n++
				ann.commit(dir, "n.txt", fmt.Sprint(n))
				b.StartTimer()
				ann.git(dir, "push", "-q", way.url, "main")
			}
		})
	}
}

// BenchmarkPage is the page of a repository, without the network.
func BenchmarkPage(b *testing.B) {
	s := serve(b)
	ann := s.person("ann")
	s.create("ann", "hello", identity.Public)
	dir := ann.work()
	for i := range 20 {
		ann.commit(dir, fmt.Sprintf("dir%d/file.go", i), "package x\n")
	}
	ann.git(dir, "push", "-q", ann.sshURL("ann/hello"), "main")
	for b.Loop() {
		if status, _ := s.get("/ann/hello", ""); status != 200 {
			b.Fatal(status)
		}
	}
}
