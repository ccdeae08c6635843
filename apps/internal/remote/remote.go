// Package remote reads the bare git repositories that apps have of their own, also objects
// that a push has brought but not yet made part of one.
//
// It runs the git binary with an environment that holds nothing but what is needed; names
// from outside are object names that were checked.
package remote

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// A Remote is one bare repository. Env names further objects: a push's quarantine.
type Remote struct {
	Dir string
	Env []string
}

var objectName = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// Checkout writes the files of a commit into dir, which exists and is empty, and tells when it
// was committed.
func (r Remote) Checkout(ctx context.Context, commit, dir string) (committed time.Time, err error) {
	if !objectName.MatchString(commit) {
		return committed, fault.Invalid("%q is not the name of a commit", commit)
	}
	index := filepath.Join(filepath.Dir(dir), filepath.Base(dir)+".index")
	defer os.Remove(index)
	_, err = r.git(ctx, []string{"GIT_INDEX_FILE=" + index, "GIT_WORK_TREE=" + dir},
		"-c", "core.bare=false", "-c", "core.autocrlf=false", "read-tree", "--reset", "-u", commit)
	if err != nil {
		return committed, fmt.Errorf("check out %.7s: %w", commit, err)
	}
	out, err := r.git(ctx, nil, "show", "--no-patch", "--format=%ct", commit)
	if err != nil {
		return committed, fmt.Errorf("date %.7s: %w", commit, err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return committed, fmt.Errorf("date %.7s: %w", commit, err)
	}
	return time.Unix(seconds, 0), nil
}

// Resolve finds the commit of a branch.
func (r Remote) Resolve(ctx context.Context, branch string) (string, error) {
	out, err := r.git(ctx, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", "refs/heads/"+branch+"^{commit}")
	if err != nil {
		return "", fault.NotFound("there is no branch %q yet", branch).Try("push to it first")
	}
	return strings.TrimSpace(out), nil
}

// Newest finds the branch that was pushed to last.
func (r Remote) Newest(ctx context.Context) (string, error) {
	out, err := r.git(ctx, nil, "for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(refname:short)", "refs/heads/")
	if err != nil {
		return "", fmt.Errorf("list branches: %w", err)
	}
	if out = strings.TrimSpace(out); out == "" {
		return "", fault.NotFound("nothing has been pushed yet").Try("push to the app's remote")
	}
	return out, nil
}

func (r Remote) git(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.Dir, "LC_ALL=C", "GIT_DIR=" + r.Dir,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}, r.Env...), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out.String(), nil
}
