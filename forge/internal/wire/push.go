package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of one command list: enough for a mirror of a large project, little enough that
// a stranger's list cannot fill the memory.
const (
	maxCommands = 50_000
	maxOptions  = 100
)

// ZeroID stands for "no object": the old value of a new ref, the new one of a deleted.
const ZeroID = "0000000000000000000000000000000000000000"

// A Command asks for one ref to be moved from Old to New.
type Command struct{ Ref, Old, New string }

// Deletes reports whether the command removes its ref.
func (c Command) Deletes() bool { return c.New == ZeroID }

// A PushRequest is what comes before the pack.
type PushRequest struct {
	Commands []Command
	Caps     map[string]string // name to value, which is mostly empty
	Options  []string          // git push -o
}

// Has reports whether the client asked for a capability.
func (p PushRequest) Has(name string) bool { _, ok := p.Caps[name]; return ok }

// HasPack reports whether a pack follows: it does unless everything is a deletion.
func (p PushRequest) HasPack() bool {
	for _, c := range p.Commands {
		if !c.Deletes() {
			return true
		}
	}
	return false
}

// ReadPush reads the command list of a push. A client with nothing to push sends only a
// flush: no commands and no error. io.EOF means that it left without a word.
func ReadPush(in io.Reader) (PushRequest, error) {
	r := NewReader(in)
	p := PushRequest{Caps: map[string]string{}}
	for lines := 0; ; lines++ {
		kind, line, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && lines > 0:
			return p, fmt.Errorf("%w: the stream ends within the command list", ErrMalformed)
		case err != nil:
			return p, err
		case kind == Flush:
			return p, p.readOptions(r)
		case kind != Data:
			return p, fmt.Errorf("%w: an unexpected packet in the command list", ErrMalformed)
		case lines >= maxCommands:
			return p, fmt.Errorf("%w: more than %d refs in one push", ErrMalformed, maxCommands)
		}
		if err := p.add(line); err != nil {
			return p, err
		}
	}
}

// add takes one line of the list: "shallow ID", or "OLD NEW REF" and, on the first
// command, NUL and the capabilities. Shallow lines are dropped: a push is only accepted
// when the history behind it is complete here, whatever the client's copy lacks.
func (p *PushRequest) add(line []byte) error {
	if bytes.HasPrefix(line, []byte("shallow ")) {
		return nil
	}
	if bytes.HasPrefix(line, []byte("push-cert")) {
		return fmt.Errorf("%w: signed pushes were not offered", ErrMalformed)
	}
	if len(p.Commands) == 0 {
		if i := bytes.IndexByte(line, 0); i >= 0 {
			p.addCaps(string(line[i+1:]))
			line = line[:i]
		}
	}
	fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 3)
	if len(fields) != 3 || !ValidID(fields[0]) || !ValidID(fields[1]) {
		return fmt.Errorf("%w: %.80q is no command", ErrMalformed, line)
	}
	p.Commands = append(p.Commands, Command{Ref: fields[2], Old: fields[0], New: fields[1]})
	return nil
}

func (p *PushRequest) addCaps(list string) {
	for _, c := range strings.Fields(list) {
		name, value, _ := strings.Cut(c, "=")
		p.Caps[name] = value
	}
}

func (p *PushRequest) readOptions(r *Reader) error {
	if !p.Has("push-options") || len(p.Commands) == 0 {
		return nil
	}
	for {
		kind, line, err := r.Next()
		if err != nil {
			return fmt.Errorf("push options: %w", err)
		}
		if kind != Data {
			return nil
		}
		if len(p.Options) == maxOptions {
			return fmt.Errorf("%w: more than %d push options", ErrMalformed, maxOptions)
		}
		p.Options = append(p.Options, strings.TrimSuffix(string(line), "\n"))
	}
}

// ValidID reports whether s is a full SHA-1 object name in lower case.
func ValidID(s string) bool {
	if len(s) != len(ZeroID) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// A Result is the answer to one command; an empty Why is acceptance.
type Result struct{ Ref, Why string }

// Report is report-status: how the pack and each command fared. unpack is empty when the
// pack was accepted.
func Report(unpack string, results []Result) []byte {
	if unpack == "" {
		unpack = "ok"
	}
	b := Append(nil, "unpack "+oneLine(unpack)+"\n")
	for _, r := range results {
		if r.Why == "" {
			b = Append(b, "ok "+oneLine(r.Ref)+"\n")
		} else {
			b = Append(b, "ng "+oneLine(r.Ref)+" "+oneLine(r.Why)+"\n")
		}
	}
	return AppendFlush(b)
}

// oneLine keeps a text within its pkt-line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 4096)]
}
