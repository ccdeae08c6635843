package wire_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"sampan.dev/sampan/engine/internal/supervisor/internal/wire"
	"sampan.dev/sampan/internal/fault"
)

func TestFramesComeAsTheyWent(t *testing.T) {
	var b bytes.Buffer
	for _, p := range []string{"", "x", strings.Repeat("y", wire.MaxPiece)} {
		if err := wire.Write(&b, wire.KindStdout, []byte(p)); err != nil {
			t.Fatal(err)
		}
		kind, got, err := wire.Read(&b, make([]byte, 10))
		if err != nil || kind != wire.KindStdout || string(got) != p {
			t.Errorf("got %d, %d bytes, %v", kind, len(got), err)
		}
	}
	if err := wire.Write(&b, wire.KindStdin, make([]byte, wire.MaxPiece+1)); err == nil {
		t.Error("too large a piece was sent")
	}
}

func TestBrokenFramesAreRefused(t *testing.T) {
	for what, frame := range map[string]string{
		"an unknown kind":       "\xff\x00\x00\x00\x00",
		"no kind":               "\x00\x00\x00\x00\x00",
		"a call of 4 GB":        "\x01\xff\xff\xff\xff",
		"a piece of 1 MB":       "\x05\x00\x10\x00\x00",
		"an end that says more": "\x04\x00\x00\x00\x01x",
		"half a head":           "\x01\x00",
		"half a payload":        "\x01\x00\x00\x00\x05abc",
	} {
		if _, _, err := wire.Read(strings.NewReader(frame), nil); err == nil || err == io.EOF {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFailuresKeepTheirKind(t *testing.T) {
	f := wire.FailureOf(fault.Conflict("it runs").Try("stop it")).Err()
	if !fault.Is(f, fault.KindConflict) || f.Error() != "it runs; stop it" {
		t.Errorf("got %v", f)
	}
	if err := wire.FailureOf(errors.New("disk broken")).Err(); err.Error() != "disk broken" || fault.Is(err, fault.KindInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestTheSocketOfADeepDirectory(t *testing.T) {
	dir := t.TempDir() + strings.Repeat("/deep-directory", 12)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := wire.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := wire.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x02{}\x04\x00\x00\x00\x00"))
	f.Add([]byte("\x03\x00\x00\x00\x03abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, buf := bytes.NewReader(b), make([]byte, 16)
		for {
			kind, p, err := wire.Read(r, buf)
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := wire.Write(&again, kind, p); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
	})
}
