package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"sampan.dev/sampan/forge/internal/wire"
)

// maxDiff is how much of a commit's diff is read for a page.
const maxDiff = 8 << 20

// A LineKind tells what a line of a diff is.
type LineKind byte

const (
	Context LineKind = ' '
	Added   LineKind = '+'
	Deleted LineKind = '-'
	Hunk    LineKind = '@'
)

// A DiffLine is one line; Old and New are its numbers, 0 on the side where it is not.
type DiffLine struct {
	Kind     LineKind
	Old, New int
	Text     string
}

// A FileDiff is what happened to one file.
type FileDiff struct {
	Old, New       string // names; Old is "" for a new file, New for a deleted one
	Binary         bool
	Mode           string // the new mode, when it changed
	Added, Deleted int
	Lines          []DiffLine
	Cut            bool // Lines lacks the end: there were too many
}

// Name is what to call the file.
func (f FileDiff) Name() string {
	if f.New != "" {
		return f.New
	}
	return f.Old
}

// DiffLimits bound what is kept of a diff.
type DiffLimits struct {
	Files int // further ones are only counted
	Lines int // of each file
}

// A Diff is what a commit changed.
type Diff struct {
	Files []FileDiff
	More  int  // files that are not in Files
	Cut   bool // the diff was too large to be read to its end
}

// Diff tells what a commit changed against its first parent.
func (r Repo) Diff(ctx context.Context, c Commit, limits DiffLimits) (Diff, error) {
	var out bytes.Buffer
	err := r.run(ctx, nil, &cutter{w: &out, left: maxDiff}, diffArgs(c)...)
	cut := err != nil && int64(out.Len()) >= maxDiff
	if err != nil && !cut {
		return Diff{}, fmt.Errorf("diff of %s: %w", c.ID, err)
	}
	d, err := ParseDiff(&out, limits)
	d.Cut = cut
	return d, err
}

func diffArgs(c Commit) []string {
	args := []string{"diff-tree", "-p", "-M", "--no-commit-id", "--full-index", "--no-ext-diff", "--no-textconv",
		"--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short"}
	if len(c.Parents) > 1 {
		return append(args, c.Parents[0], c.ID)
	}
	return append(args, "--root", c.ID)
}

// WritePatch writes a commit as a mail that `git am` takes.
func (r Repo) WritePatch(ctx context.Context, id string, w io.Writer) error {
	if !wire.ValidID(id) {
		return fmt.Errorf("patch of %q: %w", id, ErrNotFound)
	}
	return r.run(ctx, nil, w, "format-patch", "-1", "--stdout", "--no-ext-diff", "--no-textconv", "--no-color", "--no-signature", id)
}

// ParseDiff reads the output of git diff.
func ParseDiff(in io.Reader, limits DiffLimits) (Diff, error) {
	p := diffParser{limits: limits}
	br := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := br.ReadString('\n')
		if line != "" {
			p.line(strings.TrimSuffix(line, "\n"))
		}
		if errors.Is(err, io.EOF) {
			return p.diff, nil
		}
		if err != nil {
			return p.diff, err
		}
	}
}

type diffParser struct {
	limits           DiffLimits
	diff             Diff
	file             *FileDiff
	old, new         int // the next line's numbers
	oldLeft, newLeft int // lines that the hunk still has
}

// line takes one line. Within a hunk every line belongs to it, until it has as many as
// its head said: a deleted line may well look like a head.
func (p *diffParser) line(s string) {
	switch {
	case p.oldLeft > 0 || p.newLeft > 0:
		p.hunkLine(s)
	case strings.HasPrefix(s, "diff --git "):
		p.begin(s)
	case p.file == nil:
	case strings.HasPrefix(s, "@@ "):
		p.hunk(s)
	default:
		p.header(s)
	}
}

func (p *diffParser) begin(s string) {
	p.file = nil
	if len(p.diff.Files) >= p.limits.Files {
		p.diff.More++
		return
	}
	old, new := gitNames(strings.TrimPrefix(s, "diff --git "))
	p.diff.Files = append(p.diff.Files, FileDiff{Old: old, New: new})
	p.file = &p.diff.Files[len(p.diff.Files)-1]
}

// gitNames splits "a/x b/x". Both names are the same unless a rename header follows.
func gitNames(s string) (old, new string) {
	if strings.HasPrefix(s, `"`) {
		old, rest, ok := cutQuoted(s)
		if !ok {
			return "", ""
		}
		return strings.TrimPrefix(old, "a/"), strings.TrimPrefix(unquote(strings.TrimPrefix(rest, " ")), "b/")
	}
	if half := len(s) / 2; len(s)%2 == 1 && s[half] == ' ' {
		return strings.TrimPrefix(s[:half], "a/"), strings.TrimPrefix(s[half+1:], "b/")
	}
	old, new, _ = strings.Cut(s, " b/")
	return strings.TrimPrefix(old, "a/"), unquote(new)
}

func cutQuoted(s string) (name, rest string, ok bool) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return unquote(s[:i+1]), s[i+1:], true
		}
	}
	return "", "", false
}

// unquote undoes git's quoting of unusual names, which is C's with octal escapes.
func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	if text, err := strconv.Unquote(s); err == nil {
		return strings.ToValidUTF8(text, "�")
	}
	return strings.Trim(s, `"`)
}

func (p *diffParser) header(s string) {
	f := p.file
	switch {
	case strings.HasPrefix(s, "new file mode"):
		f.Old = ""
	case strings.HasPrefix(s, "deleted file mode"):
		f.New = ""
	case strings.HasPrefix(s, "new mode "):
		f.Mode = strings.TrimPrefix(s, "new mode ")
	case strings.HasPrefix(s, "rename from "):
		f.Old = unquote(strings.TrimPrefix(s, "rename from "))
	case strings.HasPrefix(s, "rename to "):
		f.New = unquote(strings.TrimPrefix(s, "rename to "))
	case strings.HasPrefix(s, "Binary files "), s == "GIT binary patch":
		f.Binary = true
	}
}

// hunk reads "@@ -3,4 +5,6 @@ text".
func (p *diffParser) hunk(s string) {
	fields := strings.SplitN(s, " ", 5)
	if len(fields) < 4 || fields[3] != "@@" || len(fields[1]) < 2 || len(fields[2]) < 2 {
		return
	}
	p.old, p.oldLeft = span(fields[1][1:])
	p.new, p.newLeft = span(fields[2][1:])
	p.keep(DiffLine{Kind: Hunk, Text: s})
}

func span(s string) (start, count int) {
	from, n, two := strings.Cut(s, ",")
	start, _ = strconv.Atoi(from)
	count = 1
	if two {
		count, _ = strconv.Atoi(n)
	}
	return max(start, 0), max(count, 0)
}

func (p *diffParser) hunkLine(s string) {
	if s == "" {
		s = " "
	}
	l := DiffLine{Kind: LineKind(s[0]), Text: strings.TrimSuffix(strings.ToValidUTF8(s[1:], "�"), "\r")}
	switch l.Kind {
	case Added:
		l.New = p.new
		p.new++
		p.newLeft--
		p.file.Added++
	case Deleted:
		l.Old = p.old
		p.old++
		p.oldLeft--
		p.file.Deleted++
	case Context:
		l.Old, l.New = p.old, p.new
		p.old, p.new = p.old+1, p.new+1
		p.oldLeft, p.newLeft = p.oldLeft-1, p.newLeft-1
	case '\\': // "No newline at end of file"
		return
	default: // not a hunk after all
		p.oldLeft, p.newLeft = 0, 0
		return
	}
	p.keep(l)
}

func (p *diffParser) keep(l DiffLine) {
	if len(p.file.Lines) >= p.limits.Lines {
		p.file.Cut = true
		return
	}
	p.file.Lines = append(p.file.Lines, l)
}
