// Package procfile reads Heroku's Procfile: the processes of an app, one a line.
//
//	web: bin/server -listen :$PORT
//	worker: bin/worker
//
// A name is letters, digits, hyphens and underscores; a command is for a shell. Empty lines
// and lines that begin with # are ignored; everything else is an error with its line number.
package procfile

import (
	"regexp"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// A Process is one line.
type Process struct {
	Name    string
	Command string
	Line    int
}

const (
	mostBytes     = 64 << 10
	mostProcesses = 100
)

// Parse reads a Procfile, in its order.
func Parse(text []byte) ([]Process, error) {
	if len(text) > mostBytes {
		return nil, fault.Invalid("the Procfile is larger than %d KiB", mostBytes>>10)
	}
	var all []Process
	seen := map[string]int{}
	for i, line := range strings.Split(strings.TrimPrefix(string(text), "\ufeff"), "\n") {
		p, err := parse(strings.TrimSpace(line), i+1)
		if err != nil {
			return nil, err
		}
		if p.Name == "" {
			continue
		}
		if first := seen[p.Name]; first > 0 {
			return nil, fault.Invalid("Procfile line %d names %q again, which line %d has", p.Line, p.Name, first).
				Try("give each process its own name")
		}
		seen[p.Name] = p.Line
		all = append(all, p)
	}
	if len(all) > mostProcesses {
		return nil, fault.Invalid("the Procfile has %d processes; %d are allowed", len(all), mostProcesses)
	}
	return all, nil
}

func parse(line string, n int) (Process, error) {
	if line == "" || line[0] == '#' {
		return Process{}, nil
	}
	name, command, ok := strings.Cut(line, ":")
	command = strings.TrimSpace(command)
	if !ok || !validName(name) {
		return Process{}, fault.Invalid("Procfile line %d is not of the form NAME: COMMAND: %.80q", n, line).
			Try("write for example web: bin/server")
	}
	if command == "" {
		return Process{}, fault.Invalid("Procfile line %d gives %q no command", n, name)
	}
	if strings.ContainsRune(command, 0) {
		return Process{}, fault.Invalid("Procfile line %d has a zero byte", n)
	}
	return Process{name, command, n}, nil
}

// validName accepts what Heroku does, within the 63 bytes of a host name's label.
func validName(name string) bool {
	return len(name) <= 63 && regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(name)
}

// Words splits a command that needs no shell; needs is the first thing that does need one.
func (p Process) Words() (words []string, needs string) {
	var word strings.Builder
	quote, inWord := rune(0), false
	for _, r := range p.Command {
		switch {
		case quote == '\'' && r != quote, quote == '"' && !strings.ContainsRune("\"$`\\", r):
			word.WriteRune(r)
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, inWord = r, true
		case strings.ContainsRune("$`\\", r), strings.ContainsRune("|&;<>()*?[]~!#{}\n\r", r):
			return nil, string(r)
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, string(quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) > 0 && strings.Contains(words[0], "=") {
		return nil, "=" // an assignment before the command
	}
	return words, ""
}
