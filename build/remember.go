package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/golang"
)

// generation is raised when equal source must be built again.
const generation = 1

// key names what a result depends on. A commit is its tree.
func (b *Builder) key(req Request) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %v %s %q %q", generation, golang.Own(), b.box.Contained(), req.Commit, req.Name, req.Env)
	return hex.EncodeToString(h.Sum(nil))[:20]
}

func (b *Builder) record(req Request) string {
	return filepath.Join(b.scope(req.Cache), "records", b.key(req)+".json")
}

// recall finds the result of an equal request, if it is still there.
func (b *Builder) recall(ctx context.Context, req Request) (Result, bool) {
	if req.Commit == "" {
		return Result{}, false
	}
	text, err := os.ReadFile(b.record(req))
	if err != nil {
		return Result{}, false
	}
	var r Result
	if err := json.Unmarshal(text, &r); err != nil {
		return Result{}, false
	}
	if b.cfg.Engine != nil {
		// Another app may have an equal image: this one's must have a name of its own.
		_, digest, _ := strings.Cut(r.Image, "@")
		err = b.cfg.Engine.Tag(ctx, digest, req.Name)
	} else {
		_, err = os.Stat(r.Dir)
	}
	r.Cached = true
	return r, err == nil
}

// recorded are the results of a scope that were remembered.
func (b *Builder) recorded(cache string) []Result {
	files, err := filepath.Glob(filepath.Join(b.scope(cache), "records", "*.json"))
	if err != nil {
		return nil // the pattern is ours
	}
	var all []Result
	for _, file := range files {
		var r Result
		if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &r) == nil {
			all = append(all, r)
		}
	}
	return all
}

// remember writes a result down. A record that is lost costs a build, no more.
func (b *Builder) remember(req Request, r Result) {
	if req.Commit == "" {
		return
	}
	file := b.record(req)
	text, err := json.Marshal(r)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err == nil {
		err = os.WriteFile(file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		b.log.Warn("a build is not remembered", "err", err)
	}
}
