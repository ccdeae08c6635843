package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"sampan.dev/sampan/forge/internal/wire"
)

// maxTree and maxText bound what is read into memory of one tree, commit or tag.
const (
	maxTree = 32 << 20
	maxText = 4 << 20
)

// Info tells what a name means. The name is a full ref, an object name, or one of these
// with "^{commit}" or "^{tree}" behind it.
func (r Repo) Info(ctx context.Context, name string) (Info, error) {
	var info Info
	err := r.ask(ctx, func(rd *reader) (err error) {
		info, err = rd.question("info", name)
		return err
	})
	return info, err
}

// Object reads a whole object into memory, if it is of that type and not larger than max.
func (r Repo) Object(ctx context.Context, id, kind string, max int64) (Info, []byte, error) {
	var info Info
	var data bytes.Buffer
	err := r.ask(ctx, func(rd *reader) (err error) {
		if info, err = rd.question("info", id); err != nil {
			return err
		}
		if info.Type != kind {
			return fmt.Errorf("%s is a %s, not a %s: %w", id, info.Type, kind, ErrNotFound)
		}
		if info.Size > max {
			return nil
		}
		return rd.contents(info, &data)
	})
	if err == nil && info.Size > max {
		return info, nil, errTooLarge
	}
	return info, data.Bytes(), err
}

var errTooLarge = errors.New("the object is too large to be shown")

// TooLarge reports whether an object was not read because of its size.
func TooLarge(err error) bool { return errors.Is(err, errTooLarge) }

// contents copies an object to w.
func (rd *reader) contents(info Info, w io.Writer) error {
	again, err := rd.question("contents", info.ID)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(w, rd.out, again.Size); err != nil {
		return fmt.Errorf("read %s: %w", info.ID, err)
	}
	if _, err := rd.out.Discard(1); err != nil {
		return fmt.Errorf("read %s: %w", info.ID, err)
	}
	return nil
}

// WriteBlob copies a blob to w.
func (r Repo) WriteBlob(ctx context.Context, id string, w io.Writer) error {
	return r.ask(ctx, func(rd *reader) error {
		info, err := rd.question("info", id)
		if err != nil {
			return err
		}
		if info.Type != "blob" {
			return fmt.Errorf("%s is no file: %w", id, ErrNotFound)
		}
		return rd.contents(info, w)
	})
}

// Resolve finds the commit that a rev names: a branch, a tag, a full ref, HEAD, or seven
// or more digits of an object name, tried in this order.
func (r Repo) Resolve(ctx context.Context, rev string) (string, error) {
	for _, name := range candidates(rev) {
		info, err := r.Info(ctx, name+"^{commit}")
		if err == nil && info.Type == "commit" {
			return info.ID, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", err
		}
	}
	return "", fmt.Errorf("%q: %w", rev, ErrNotFound)
}

func candidates(rev string) []string {
	var names []string
	if rev == "HEAD" {
		return []string{"HEAD"}
	}
	if ValidBranch(rev) {
		names = append(names, "refs/heads/"+rev, "refs/tags/"+rev)
	}
	if ValidRef(rev) {
		names = append(names, rev)
	}
	if isHex(rev) {
		names = append(names, rev)
	}
	return names
}

func isHex(s string) bool {
	return len(s) >= 7 && len(s) <= 40 && wire.ValidID(s+wire.ZeroID[len(s):])
}

// An Entry is one line of a tree.
type Entry struct {
	Name string
	Mode string // 100644, 100755, 120000, 40000, 160000
	ID   string
}

func (e Entry) Dir() bool       { return e.Mode == "40000" }
func (e Entry) Symlink() bool   { return e.Mode == "120000" }
func (e Entry) Submodule() bool { return e.Mode == "160000" }

// Tree lists one directory of a commit, and tells its object name. The path is clean,
// relative, and "" for the top.
func (r Repo) Tree(ctx context.Context, commit, dir string) (string, []Entry, error) {
	id, err := r.treeID(ctx, commit, dir)
	if err != nil {
		return "", nil, err
	}
	entries, err := r.treeEntries(ctx, id)
	return id, entries, err
}

func (r Repo) treeEntries(ctx context.Context, id string) ([]Entry, error) {
	_, data, err := r.Object(ctx, id, "tree", maxTree)
	if err != nil {
		return nil, err
	}
	return ParseTree(data)
}

// treeID walks from the top: no path ever becomes part of a question to git.
func (r Repo) treeID(ctx context.Context, commit, dir string) (string, error) {
	if dir == "" {
		info, err := r.Info(ctx, commit+"^{tree}")
		return info.ID, err
	}
	e, err := r.Entry(ctx, commit, dir)
	if err != nil {
		return "", err
	}
	if !e.Dir() {
		return "", fmt.Errorf("%s is no directory: %w", dir, ErrNotFound)
	}
	return e.ID, nil
}

// Entry finds one file or directory of a commit.
func (r Repo) Entry(ctx context.Context, commit, file string) (Entry, error) {
	if file != path.Clean(file) || strings.HasPrefix(file, "/") || strings.HasPrefix(file, "../") {
		return Entry{}, fmt.Errorf("%q: %w", file, ErrNotFound)
	}
	info, err := r.Info(ctx, commit+"^{tree}")
	if err != nil {
		return Entry{}, err
	}
	found := Entry{Mode: "40000", ID: info.ID}
	for part := range strings.SplitSeq(file, "/") {
		if !found.Dir() {
			return Entry{}, fmt.Errorf("%q: %w", file, ErrNotFound)
		}
		entries, err := r.treeEntries(ctx, found.ID)
		if err != nil {
			return Entry{}, err
		}
		if found, err = pick(entries, part); err != nil {
			return Entry{}, fmt.Errorf("%q: %w", file, err)
		}
	}
	return found, nil
}

func pick(entries []Entry, name string) (Entry, error) {
	for _, e := range entries {
		if e.Name == name {
			return e, nil
		}
	}
	return Entry{}, ErrNotFound
}

// ParseTree reads a tree object: "MODE NAME", NUL, and twenty bytes, again and again.
func ParseTree(data []byte) ([]Entry, error) {
	var list []Entry
	for len(data) > 0 {
		end := bytes.IndexByte(data, 0)
		if end < 0 || len(data) < end+21 {
			return nil, errors.New("a tree ends within an entry")
		}
		mode, name, ok := strings.Cut(string(data[:end]), " ")
		if !ok || name == "" {
			return nil, errors.New("a tree has an entry without a name")
		}
		list = append(list, Entry{Name: name, Mode: mode, ID: fmt.Sprintf("%x", data[end+1:end+21])})
		data = data[end+21:]
	}
	return list, nil
}
