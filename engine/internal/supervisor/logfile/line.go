package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// A Line of output; its text is in one or two pieces.
type Line struct {
	Time   time.Time
	Stream string
	Text   []byte
	More   []byte // follows Text
}

// appendLine encodes without reflection: every line of every container passes here.
func appendLine(b []byte, l Line) []byte {
	b = append(b, `{"log":"`...)
	b = appendText(b, l.Text, l.More)
	b = append(b, `","stream":"`...)
	b = append(b, l.Stream...)
	b = append(b, `","time":"`...)
	b = l.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

// appendText joins the pieces when a character lies across them.
func appendText(b, text, more []byte) []byte {
	if len(text) > 0 && len(more) > 0 && text[len(text)-1] >= utf8.RuneSelf {
		text, more = append(text, more...), nil
	}
	return appendEscaped(appendEscaped(b, text), more)
}

const hex = "0123456789abcdef"

// appendEscaped writes the inside of a JSON string (RFC 8259 §7). Bytes that are not UTF-8
// become U+FFFD, for a JSON string cannot hold them.
func appendEscaped(b, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c >= ' ' && c != 0x7f:
				b = append(b, c)
			case c == '\n':
				b = append(b, '\\', 'n')
			case c == '\r':
				b = append(b, '\\', 'r')
			case c == '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		b = utf8.AppendRune(b, r)
		i += n
	}
	return b
}

var errLine = errors.New("not a line of a container's log")

// Parse reads one line of a file. Lines that a power loss or a full disk spoiled give an
// error; a reader skips them.
func Parse(line []byte) (Line, error) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' {
		return Line{}, errLine
	}
	var raw struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return Line{}, fmt.Errorf("%w: %w", errLine, err)
	}
	return Line{Time: raw.Time, Stream: raw.Stream, Text: []byte(raw.Log)}, nil
}
