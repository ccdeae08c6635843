package golang

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb"

	"sampan.dev/sampan/build/internal/fetch"
)

// The database that may be named without its key, as in cmd/go.
const (
	home      = "golang.org"
	knownName = "sum." + home
	knownKey  = knownName + "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
)

// errSilent means that the database could not be asked, which is no word against the file.
var errSilent = errors.New("the checksum database does not answer")

// A checker asks a checksum database, and keeps the part of its log that it has verified.
type checker struct {
	ctx     context.Context // of one check; sumdb's client has no way to pass it
	client  *fetch.Client
	dir     string
	key     string
	url     string
	proxies []string

	mu      sync.Mutex
	silent  bool
	problem string // a proof that failed
}

// check returns the go.sum lines of a module's version. The setting is GOSUMDB's.
func check(ctx context.Context, client *fetch.Client, dir, setting string, proxies []string, module, version string) ([]string, error) {
	if setting == "off" {
		return nil, errSilent
	}
	if setting == "" {
		setting = knownName
	}
	fields := strings.Fields(setting)
	key := fields[0]
	if key == knownName {
		key = knownKey
	}
	name, _, ok := strings.Cut(key, "+")
	if !ok {
		return nil, fmt.Errorf("GOSUMDB names %s without its key", key)
	}
	c := &checker{ctx: ctx, client: client, dir: filepath.Join(dir, name), key: key, url: "https://" + name, proxies: proxies}
	if len(fields) > 1 {
		c.url = fields[1]
	}
	lines, err := sumdb.NewClient(c).Lookup(module, version)
	switch {
	case c.problem != "":
		return nil, fmt.Errorf("checksum database: %s", c.problem)
	case c.silent:
		return nil, errSilent
	case err != nil:
		return nil, fmt.Errorf("ask the checksum database: %w", err)
	}
	return lines, nil
}

// ReadRemote asks the proxies first, which may pass questions on.
func (c *checker) ReadRemote(path string) ([]byte, error) {
	const most = 4 << 20
	name, _, _ := strings.Cut(c.key, "+")
	for _, p := range c.proxies {
		if text, err := c.client.Bytes(c.ctx, p+"/sumdb/"+name+path, most); err == nil {
			return text, nil
		}
	}
	text, err := c.client.Bytes(c.ctx, c.url+path, most)
	var status *fetch.StatusError
	if err != nil && !errors.As(err, &status) {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
	}
	return text, err
}

func (c *checker) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(c.key), nil
	}
	text, err := os.ReadFile(filepath.Join(c.dir, filepath.Base(file)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (c *checker) WriteConfig(file string, old, new []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := c.ReadConfig(file)
	if err != nil {
		return err
	}
	if string(now) != string(old) {
		return sumdb.ErrWriteConflict
	}
	return c.write(filepath.Join(c.dir, filepath.Base(file)), new)
}

// ReadCache and WriteCache keep nothing: one question a toolchain is asked.
func (c *checker) ReadCache(string) ([]byte, error) { return nil, fs.ErrNotExist }
func (c *checker) WriteCache(string, []byte)        {}
func (c *checker) Log(string)                       {}

func (c *checker) SecurityError(msg string) {
	c.mu.Lock()
	c.problem = msg
	c.mu.Unlock()
}

func (c *checker) write(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
