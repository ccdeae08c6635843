// Package node builds Node packages: npm ci from the lockfile, then the build script if there is one.
//
// What npm installs is kept for each app and lockfile; an unchanged lockfile installs nothing
// and gives the same layer. Node itself is the newest release that package.json allows, from
// the npm registry, on Debian. On the host both node and npm are the host's.
package node

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"sampan.dev/sampan/build/internal/job"
	"sampan.dev/sampan/build/internal/pack"
	"sampan.dev/sampan/build/internal/rootfs"
	"sampan.dev/sampan/build/internal/sandbox"
	"sampan.dev/sampan/build/internal/source"
	"sampan.dev/sampan/build/internal/turn"
	"sampan.dev/sampan/internal/fault"
)

// A Builder builds Node packages. It is safe for concurrent use.
type Builder struct {
	dir   string
	turns turn.Turns
}

// In makes a Builder that keeps what all apps share in dir.
func In(dir string) *Builder { return &Builder{dir: dir} }

func (*Builder) Name() string { return "Node" }

func (*Builder) Detect(t *source.Tree) (string, error) {
	if !t.File("package.json") {
		return "", nil
	}
	p, err := read(t)
	if err != nil {
		return "", err
	}
	if p.Engines.Node != "" {
		return "package.json at the root asks for Node " + p.Engines.Node, nil
	}
	return "package.json at the root", nil
}

func read(t *source.Tree) (Package, error) {
	text, err := t.Read("package.json")
	if err != nil {
		return Package{}, err
	}
	return Parse(text)
}

// Build installs, builds and says how to start.
func (b *Builder) Build(ctx context.Context, j *job.Job) (job.Product, error) {
	p, err := read(j.Source)
	if err != nil {
		return job.Product{}, err
	}
	start, err := start(j, p)
	if err != nil {
		return job.Product{}, err
	}
	t, err := b.tools(ctx, j, p)
	if err != nil {
		return job.Product{}, err
	}
	modules, err := b.modules(ctx, j, p, t)
	if err != nil {
		return job.Product{}, err
	}
	product := job.Product{
		Base: t.image, Shell: true, Processes: start,
		Parts: []pack.Part{{Dir: j.App, At: pack.App, Skip: "node_modules"}},
		Env: []string{
			"NODE_ENV=production",
			"PATH=" + path.Join(pack.App, "node_modules/.bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		},
	}
	if modules.dir != "" { // below the app's files, so that a change of those leaves it alone
		part := pack.Part{Key: modules.key, Dir: modules.dir, At: path.Join(pack.App, "node_modules"), Undated: true}
		product.Parts = append([]pack.Part{part}, product.Parts...)
	}
	return product, nil
}

// start finds the web process. The script is started without npm, which would keep 60 MB and
// the signals to itself, unless scripts before or after it are wanted.
func start(j *job.Job, p Package) ([]job.Process, error) {
	script := p.Scripts["start"]
	switch {
	case script != "" && (p.Scripts["prestart"] != "" || p.Scripts["poststart"] != ""):
		return web("npm", "start"), nil
	case script != "":
		return web("/bin/sh", "-c", replaceShell(script)), nil
	case j.Source.File("server.js"):
		return web("node", "server.js"), nil
	case p.Main != "" && j.Source.File(p.Main):
		return web("node", p.Main), nil
	case len(j.Procfile) > 0:
		return nil, nil
	}
	return nil, fault.Invalid("package.json does not say how the app starts").
		Try("add \"scripts\": {\"start\": \"node app.js\"} or a Procfile")
}

func web(argv ...string) []job.Process { return []job.Process{{Name: "web", Argv: argv}} }

// replaceShell lets a simple command take the shell's place, so that it gets the signals.
func replaceShell(script string) string {
	first, _, _ := strings.Cut(script, " ")
	if strings.ContainsAny(script, ";&|\n(){}<>`") || strings.Contains(first, "=") || first == "exec" {
		return script
	}
	return "exec " + script
}

// command is npm in the sandbox, at the directory dir.
func (t tools) command(j *job.Job, dir, cache sandbox.Mount, args ...string) sandbox.Command {
	env := append(j.Machine.NPM(),
		"PATH="+t.path, "HOME="+j.Box.See(cache), "TMPDIR="+path.Join(j.Box.See(cache), "tmp"),
		"npm_config_cache="+path.Join(j.Box.See(cache), "npm"),
		"npm_config_update_notifier=false", "npm_config_fund=false", "npm_config_audit=false", "npm_config_loglevel=error", "npm_config_progress=false",
		"CI=true")
	if file := j.Machine.Certificates(); file != "" {
		if j.Box.Contained() {
			file = rootfs.Certificates
		}
		env = append(env, "NODE_EXTRA_CA_CERTS="+file, "SSL_CERT_FILE="+file)
	}
	return sandbox.Command{
		Image: t.image, Argv: append([]string{t.npm}, args...), Dir: j.Box.See(dir), Env: j.Environment(env...),
		Mounts: []sandbox.Mount{dir, cache}, Limits: j.Limits,
	}
}

// cacheDir is npm's own cache of an app, and its home.
func cacheDir(j *job.Job) (sandbox.Mount, error) {
	m := sandbox.Mount{Host: filepath.Join(j.Cache, "node", "npm"), At: "/cache"}
	return m, folders(j.Box.Owner(), m.Host, filepath.Join(m.Host, "tmp"))
}

// run runs npm and says what its failure means.
func run(ctx context.Context, j *job.Job, c sandbox.Command, what string) error {
	lines := j.Out.Lines()
	c.Output = lines
	err := j.Box.Run(ctx, c)
	lines.Close()
	f, failed := sandbox.Failed(err)
	if !failed || f.OOM || f.Timeout > 0 {
		return err
	}
	return explain(what, f, strings.Join(j.Out.Last(), "\n"))
}

func explain(what string, f *sandbox.Failure, text string) error {
	for _, c := range []struct{ sign, why, try string }{
		{"EUSAGE", "package-lock.json does not fit package.json", "run npm install and commit package-lock.json"},
		{"ERESOLVE", "the dependencies contradict each other", "run npm install until it succeeds and commit package-lock.json"},
		{"EINTEGRITY", "a package is not the one of package-lock.json", "somebody changed a published version; compare with a copy that you trust"},
		{"E404", "a package does not exist in the registry", "check its name and version in package.json"},
		{"ENOTFOUND", "the npm registry cannot be reached", "check the server's network and npm_config_registry"},
		{"EAI_AGAIN", "the npm registry cannot be reached", "check the server's network and npm_config_registry"},
		{"ENOSPC", "the server's disk is full", "free space on the server"},
		{"Missing script", "package.json has no such script", "add it to scripts"},
	} {
		if strings.Contains(text, c.sign) {
			return fault.Invalid("%s failed: %s", what, c.why).Try("%s", c.try)
		}
	}
	return fault.Invalid("%s failed: %w", what, f).Try("read what it printed above")
}
