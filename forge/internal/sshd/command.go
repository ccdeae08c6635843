package sshd

import (
	"errors"
	"strings"
)

const maxCommand = 64 << 10

var errQuote = errors.New("a quote is not closed")

// Split takes a command line apart as a POSIX shell would, and expands nothing: quotes
// and backslashes group words, everything else is itself.
func Split(line string) ([]string, error) {
	if len(line) > maxCommand {
		return nil, errors.New("the command is too long")
	}
	if strings.ContainsRune(line, 0) {
		return nil, errors.New("the command contains a NUL")
	}
	var words []string
	for line = skipBlank(line); line != ""; line = skipBlank(line) {
		word, rest, err := takeWord(line)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), rest
	}
	return words, nil
}

func skipBlank(s string) string { return strings.TrimLeft(s, " \t\n") }

func takeWord(s string) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n':
			return b.String(), s[i:], nil
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return "", "", errQuote
			}
			b.WriteString(s[i+1 : i+1+end])
			i += end + 1
		case '"':
			n, err := takeDouble(&b, s[i+1:])
			if err != nil {
				return "", "", err
			}
			i += n
		case '\\':
			if i++; i == len(s) {
				return "", "", errQuote
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// takeDouble reads up to and including the closing quote and tells how far that is.
func takeDouble(b *strings.Builder, s string) (int, error) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`\n", s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return 0, errQuote
}
