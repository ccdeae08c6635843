package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/forge/internal/wire"
)

// A Ref is a name for an object.
type Ref struct {
	Name string // refs/heads/main
	ID   string
}

// ValidRef reports whether git allows the name: git-check-ref-format(1), under refs/.
func ValidRef(name string) bool {
	rest, ok := strings.CutPrefix(name, "refs/")
	if !ok || len(name) > 512 || strings.HasSuffix(name, ".") || strings.HasSuffix(name, "/") {
		return false
	}
	if strings.Contains(name, "..") || strings.Contains(name, "@{") || !strings.Contains(rest, "/") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`~^:?*[\`, c) >= 0 {
			return false
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") || len(part) > 240 {
			return false
		}
	}
	return true
}

// ValidBranch reports whether name can be the short name of a branch.
func ValidBranch(name string) bool {
	return ValidRef("refs/heads/"+name) && name[0] != '-' && name != "HEAD"
}

// Refs lists all refs, by name.
func (r Repo) Refs(ctx context.Context) ([]Ref, error) {
	out, err := r.output(ctx, nil, "for-each-ref", "--format=%(objectname) %(refname)")
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	var refs []Ref
	for line := range strings.Lines(string(out)) {
		if id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			refs = append(refs, Ref{Name: name, ID: id})
		}
	}
	return refs, nil
}

// A Branch is a branch with its newest commit.
type Branch struct {
	Name, ID, Subject, Author string
	When                      time.Time
}

// Branches lists branches, the most recently changed first; tags says to list tags.
func (r Repo) Branches(ctx context.Context, tags bool, limit int) ([]Branch, error) {
	under := "refs/heads/"
	if tags {
		under = "refs/tags/"
	}
	const format = "%(refname:lstrip=2)%00%(objectname)%00%(creatordate:unix)%00%(authorname)%00%(contents:subject)%00"
	out, err := r.output(ctx, nil, "for-each-ref", "--sort=-creatordate", "--count="+strconv.Itoa(limit), "--format="+format, under)
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	var list []Branch
	for record := range strings.Lines(string(out)) {
		f := strings.Split(record, "\x00")
		if len(f) < 5 {
			continue
		}
		list = append(list, Branch{Name: f[0], ID: f[1], When: unixTime(f[2]), Author: f[3], Subject: strings.ToValidUTF8(f[4], "�")})
	}
	return list, nil
}

func unixTime(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// Head is the ref that HEAD names, whether or not it exists yet.
func (r Repo) Head() (string, error) {
	text, err := os.ReadFile(filepath.Join(r.dir, "HEAD"))
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(text), "ref: ")), nil
}

// SetHead makes a branch the default one.
func (r Repo) SetHead(ctx context.Context, branch string) error {
	if !ValidBranch(branch) {
		return fmt.Errorf("%q is no branch", branch)
	}
	return writeFile(filepath.Join(r.dir, "HEAD"), "ref: refs/heads/"+branch+"\n")
}

// Lookup finds the objects of refs, without following tags. Missing refs are left out.
func (r Repo) Lookup(ctx context.Context, names []string) (map[string]string, error) {
	found := map[string]string{}
	for _, name := range names {
		if !ValidRef(name) {
			continue
		}
		info, err := r.Info(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = info.ID
	}
	return found, nil
}

// A Signer is who the reflog names.
type Signer struct{ Name, Email string }

// UpdateRefs moves all refs in one transaction, or none. The caller is the only one who
// moves refs of this repository; a lock file that is in the way was left by a crash.
func (r Repo) UpdateRefs(ctx context.Context, commands []wire.Command, why string, who Signer) error {
	var in bytes.Buffer
	for _, c := range commands {
		if !ValidRef(c.Ref) {
			return fmt.Errorf("%q is no ref", c.Ref)
		}
		removeStale(filepath.Join(r.dir, c.Ref+".lock"))
		if c.Deletes() {
			fmt.Fprintf(&in, "delete %s\x00%s\x00", c.Ref, c.Old)
		} else {
			fmt.Fprintf(&in, "update %s\x00%s\x00%s\x00", c.Ref, c.New, c.Old)
		}
	}
	removeStale(filepath.Join(r.dir, "packed-refs.lock"))
	removeStale(filepath.Join(r.dir, "HEAD.lock"))
	signed := r.With([]string{"GIT_COMMITTER_NAME=" + clean(who.Name), "GIT_COMMITTER_EMAIL=" + clean(who.Email)})
	if _, err := signed.output(ctx, &in, "update-ref", "-m", why, "--create-reflog", "--stdin", "-z"); err != nil {
		return err
	}
	return r.syncRefs(commands)
}

// clean keeps a name from breaking the reflog's line.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == '<' || c == '>' {
			return -1
		}
		return c
	}, s)
}

// removeStale removes a lock file. Its absence, the usual case, costs one system call.
func removeStale(file string) { os.Remove(file) }

// syncRefs makes the names durable: git syncs a ref's file but not its directory.
func (r Repo) syncRefs(commands []wire.Command) error {
	dirs := map[string]bool{r.dir: true}
	for _, c := range commands {
		for d := filepath.Dir(filepath.Join(r.dir, c.Ref)); len(d) > len(r.dir); d = filepath.Dir(d) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		if err := syncDir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeFile replaces a file durably.
func writeFile(file, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}
