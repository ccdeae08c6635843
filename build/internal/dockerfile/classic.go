package dockerfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/chrootarchive"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"sampan.dev/sampan/internal/fault"
)

// A Classic is a build as clients ask for it that know nothing of BuildKit: all files come
// first, in one archive.
type Classic struct {
	Context    io.Reader // a tar archive, plain or compressed
	Remote     string    // a URL instead
	Dockerfile string    // a path in the archive; empty: Dockerfile
	Tags       []string
	Args       map[string]*string // one without a value is the Dockerfile's own
	Labels     map[string]string
	Target     string
	Platform   string
	Network    string // "", "default", "bridge" or "none"
	Hosts      []string
	Attributes map[string]string // further ones of the frontend
	NoCache    bool
	Pull       bool
	Quiet      bool
	SignIns    map[string]registry.AuthConfig // by registry
}

// Build runs it and writes what happens to out, as one JSON object a line.
func (d *Daemon) Build(ctx context.Context, c Classic, out *json.Encoder) error {
	b, err := d.Client(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	dir, err := os.MkdirTemp(d.builder.dir, "context")
	if err != nil {
		return fmt.Errorf("unpack the build context: %w", err)
	}
	defer os.RemoveAll(dir)
	opt, err := c.options(dir)
	if err != nil {
		return err
	}
	t := &teller{out: out, quiet: c.Quiet}
	status := make(chan *client.SolveStatus)
	var res *client.SolveResponse
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.tell(status) })
	g.Go(func() (err error) {
		res, err = b.Solve(ctx, nil, opt, status)
		return err
	})
	if err := g.Wait(); err != nil {
		return plain(err)
	}
	image, err := d.builder.engine.Image(ctx, res.ExporterResponse["containerimage.digest"])
	if err != nil {
		return fmt.Errorf("look at the built image: %w", err)
	}
	return t.done(image.ID, c.Tags)
}

// plain is BuildKit's error without what its layers say of themselves.
func plain(err error) error {
	message := err.Error()
	for _, noise := range []string{"failed to solve: ", "rpc error: code = Unknown desc = "} {
		message = strings.ReplaceAll(message, noise, "")
	}
	return fault.Invalid("%s", message)
}

func (c Classic) options(dir string) (client.SolveOpt, error) {
	opt := client.SolveOpt{Frontend: frontendName, FrontendAttrs: c.attributes(), Session: []session.Attachable{signIns{all: c.SignIns}}}
	opt.Exports = []client.ExportEntry{{Type: moby, Attrs: map[string]string{"name": strings.Join(c.Tags, ",")}}}
	if c.Remote != "" {
		opt.FrontendAttrs["context"] = c.Remote
		return opt, nil
	}
	if err := chrootarchive.Untar(c.Context, dir, &archive.TarOptions{}); err != nil {
		return opt, fault.Invalid("the build context cannot be unpacked: %w", err).Try("send a tar archive, plain or compressed")
	}
	if _, err := os.Lstat(filepath.Join(dir, path.Join("/", opt.FrontendAttrs["filename"]))); err != nil {
		return opt, fault.Invalid("Cannot locate specified Dockerfile: %s", opt.FrontendAttrs["filename"])
	}
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return opt, fmt.Errorf("open the build context: %w", err)
	}
	opt.LocalMounts = map[string]fsutil.FS{"context": files, "dockerfile": files}
	return opt, nil
}

func (c Classic) attributes() map[string]string {
	a := map[string]string{"filename": name, "image-resolve-mode": "local"}
	maps.Copy(a, c.Attributes)
	set := func(key, value string) {
		if value != "" {
			a[key] = value
		}
	}
	set("filename", c.Dockerfile)
	set("target", c.Target)
	set("platform", c.Platform)
	if c.Network != "" && c.Network != "default" && c.Network != "bridge" {
		a["force-network-mode"] = c.Network
	}
	if c.NoCache {
		a["no-cache"] = ""
	}
	if c.Pull {
		a["image-resolve-mode"] = "pull"
	}
	hosts := make([]string, len(c.Hosts))
	for i, h := range c.Hosts {
		hosts[i] = strings.Replace(h, ":", "=", 1)
	}
	set("add-hosts", strings.Join(hosts, ","))
	for key, value := range c.Args {
		if value != nil {
			a["build-arg:"+key] = *value
		}
	}
	for key, value := range c.Labels {
		a["label:"+key] = value
	}
	return a
}

// signIns answer BuildKit's question for a registry's password.
type signIns struct {
	auth.UnimplementedAuthServer
	all map[string]registry.AuthConfig
}

// Register implements [session.Attachable].
func (s signIns) Register(server *grpc.Server) { auth.RegisterAuthServer(server, s) }

// Credentials implements [auth.AuthServer].
func (s signIns) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := r.Host
	if host == "registry-1.docker.io" {
		host = "https://index.docker.io/v1/"
	}
	found := s.all[host]
	if found.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: found.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: found.Username, Secret: found.Password}, nil
}

// A teller says what BuildKit does in the words of the classic builder.
type teller struct {
	out   *json.Encoder
	quiet bool
	said  map[digest.Digest]bool
}

// instruction matches the name of a Dockerfile's step: [stage 2/3] RUN make.
func instruction() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^\[(?:\S+ )?\s*(\d+)/(\d+)\] (.*)$`)
}

func (t *teller) tell(status <-chan *client.SolveStatus) error {
	t.said = map[digest.Digest]bool{}
	pattern := instruction()
	var failed error
	say := func(format string, args ...any) {
		if !t.quiet && failed == nil {
			failed = t.out.Encode(jsonstream.Message{Stream: fmt.Sprintf(format, args...)})
		}
	}
	for s := range status { // to its end also when nobody listens: BuildKit waits for us
		for _, v := range s.Vertexes {
			parts := pattern.FindStringSubmatch(v.Name)
			if v.Started == nil || t.said[v.Digest] || parts == nil {
				continue
			}
			t.said[v.Digest] = true
			say("Step %s/%s : %s\n", parts[1], parts[2], parts[3])
			if v.Cached {
				say(" ---> Using cache\n")
			}
		}
		for _, l := range s.Logs {
			say("%s", l.Data)
		}
		for _, w := range s.Warnings {
			say("[Warning] %s\n", w.Short)
		}
	}
	return failed
}

// done says what was made.
func (t *teller) done(id string, tags []string) error {
	raw, err := json.Marshal(build.Result{ID: id})
	if err != nil {
		return fmt.Errorf("tell of the built image: %w", err)
	}
	aux := json.RawMessage(raw)
	messages := []jsonstream.Message{{Aux: &aux}}
	if t.quiet {
		messages = append(messages, jsonstream.Message{Stream: id + "\n"})
	} else {
		messages = append(messages, jsonstream.Message{Stream: fmt.Sprintf("Successfully built %.12s\n", strings.TrimPrefix(id, "sha256:"))})
		for _, tag := range tags {
			messages = append(messages, jsonstream.Message{Stream: "Successfully tagged " + tag + "\n"})
		}
	}
	for _, m := range messages {
		if err := t.out.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

// A Record is something in BuildKit's cache.
type Record = client.UsageInfo

// Cache lists what is kept.
func (d *Daemon) Cache(ctx context.Context) ([]*Record, error) {
	d.mu.Lock()
	idle := d.open == nil
	d.mu.Unlock()
	if _, err := os.Stat(filepath.Join(d.dir, "cache.db")); idle && errors.Is(err, os.ErrNotExist) {
		return nil, nil // nobody built yet
	}
	b, err := d.Client(ctx)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return b.DiskUsage(ctx)
}

// Prune deletes what no build uses: all of it, or what was in no image and no cache mount; and
// with filters as BuildKit knows them only what fits.
func (d *Daemon) Prune(ctx context.Context, o client.PruneInfo) (ids []string, freed int64, err error) {
	b, err := d.Client(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer b.Close()
	opts := []client.PruneOption{client.WithKeepOpt(o.KeepDuration, o.ReservedSpace, o.MaxUsedSpace, o.MinFreeSpace), client.WithFilter(o.Filter)}
	if o.All {
		opts = append(opts, client.PruneAll)
	}
	records := make(chan client.UsageInfo)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(records)
		return b.Prune(ctx, records, opts...)
	})
	for r := range records {
		ids, freed = append(ids, r.ID), freed+r.Size
	}
	slices.Sort(ids)
	return ids, freed, g.Wait()
}
