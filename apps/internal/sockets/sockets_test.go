package sockets_test

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"sampan.dev/sampan/apps/internal/sockets"
)

func TestOfFindsWhatThisProcessListensOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held, err := sockets.Inodes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	all, err := sockets.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(s sockets.Socket) bool { return s.Addr.String() == l.Addr().String() && held[s.Inode] }) {
		t.Errorf("%s is not among %v of %v", l.Addr(), all, held)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("  sl  local_address\n   0: 0100007F:1389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1\n")
	f.Add("   0: 00000000000000000000000001000000:1F90 0:0 0A a b c d e 7 1")
	f.Fuzz(func(t *testing.T, text string) {
		found, err := sockets.Parse(strings.NewReader(text))
		for _, s := range found {
			if err == nil && !s.Addr.Addr().IsValid() {
				t.Errorf("%+v has no address", s)
			}
		}
	})
}
