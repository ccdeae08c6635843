package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"sampan.dev/sampan/forge/internal/wire"
)

const (
	idA = "1111111111111111111111111111111111111111"
	idB = "2222222222222222222222222222222222222222"
)

func line(s string) string { return string(wire.Append(nil, s)) }

func TestReadPush(t *testing.T) {
	first := line(idA + " " + idB + " refs/heads/main\x00report-status side-band-64k agent=git/2.39.5\n")
	cases := []struct {
		name, in string
		commands int
		wrong    bool
	}{
		{"one command", first + "0000PACK", 1, false},
		{"two commands", first + line(wire.ZeroID+" "+idB+" refs/tags/v1") + "0000", 2, false},
		{"shallow lines are passed over", line("shallow "+idA) + first + "0000", 1, false},
		{"nothing to push is only a flush", "0000", 0, false},
		{"a list without an end", first, 0, true},
		{"a length that is no number", "zzzz", 0, true},
		{"a length of three", "0003", 0, true},
		{"a line that ends early", "0040abc", 0, true},
		{"a short object name", line("1111 2222 refs/heads/main") + "0000", 0, true},
		{"a command without a ref", line(idA+" "+idB) + "0000", 0, true},
		{"a signed push", line("push-cert\x00push-cert") + "0000", 0, true},
		{"a delimiter", "0001", 0, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := strings.NewReader(c.in)
			got, err := wire.ReadPush(in)
			if (err != nil) != c.wrong {
				t.Fatalf("error is %v", err)
			}
			if err != nil {
				if !errors.Is(err, wire.ErrMalformed) {
					t.Fatalf("%v is not ErrMalformed", err)
				}
				return
			}
			if len(got.Commands) != c.commands {
				t.Fatalf("commands: %+v", got.Commands)
			}
		})
	}
}

func TestReadPushLeavesThePack(t *testing.T) {
	in := strings.NewReader(line(idA+" "+idB+" refs/heads/x\x00push-options\n") + "0000" + line("ci.skip") + "0000PACK")
	p, err := wire.ReadPush(in)
	if err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(in)
	if string(rest) != "PACK" || len(p.Options) != 1 || p.Options[0] != "ci.skip" || !p.HasPack() {
		t.Fatalf("rest %q, request %+v", rest, p)
	}
}

func TestSideBandSplitsAndNeverMixes(t *testing.T) {
	var out bytes.Buffer
	s := wire.NewSideBand(&out, true)
	text := strings.Repeat("x", 2500)
	if n, err := s.Band(wire.BandProgress).Write([]byte(text)); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	s.Idle() // something was sent: no packet
	s.Idle() // now one
	s.Close()
	r := wire.NewReader(&out)
	var got, packets = "", 0
	for {
		kind, p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == wire.Flush {
			break
		}
		packets++
		if p[0] == wire.BandProgress {
			got += string(p[1:])
		}
	}
	if got != text || packets != 4 {
		t.Fatalf("%d bytes in %d packets", len(got), packets)
	}
}

func TestReportKeepsToItsLines(t *testing.T) {
	got := string(wire.Report("", []wire.Result{{Ref: "refs/heads/a"}, {Ref: "refs/heads/b", Why: "no\nway"}}))
	want := line("unpack ok\n") + line("ok refs/heads/a\n") + line("ng refs/heads/b no way\n") + "0000"
	if got != want {
		t.Fatalf("got %q", got)
	}
}

func FuzzReadPush(f *testing.F) {
	f.Add([]byte(line(idA+" "+idB+" refs/heads/main\x00report-status\n") + "0000"))
	f.Add([]byte("0000"))
	f.Add([]byte("fff0"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := wire.ReadPush(bytes.NewReader(in))
		if err != nil {
			return
		}
		for _, c := range p.Commands {
			if !wire.ValidID(c.Old) || !wire.ValidID(c.New) {
				t.Fatalf("accepted %+v", c)
			}
		}
	})
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("0009hello0000"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(bytes.NewReader(in))
		for {
			if _, p, err := r.Next(); err != nil {
				return
			} else if len(p) > wire.MaxPayload {
				t.Fatal("too long")
			}
		}
	})
}
