package platform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/apps/internal/runner"
	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

var appName = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)

// reserved names are hosts of Sampan itself.
var reserved = []string{"deis", "deis-builder", "git", "ssh", "www", "api", "registry", "sampan", "admin", "localhost"}

// CheckName says what is wrong with an app's name.
func CheckName(name string) error {
	switch {
	case name == "":
		return fault.Invalid("This field may not be blank.").On("id")
	case len(name) > 63 || !appName.MatchString(name):
		return fault.Invalid("App name must start with an alphabetic character, cannot end with a hyphen and can only contain a-z (lowercase), 0-9 and hyphens").On("id")
	case slices.Contains(reserved, name):
		return fault.Invalid("%s is a reserved name", name).Try("choose another name").On("id")
	}
	return nil
}

// hidden gives what one may not see the words of what does not exist.
func hidden(err error) error {
	if fault.Is(err, fault.KindNotFound) {
		return fault.NotFound("No App matches the given query.")
	}
	return err
}

// Create makes an app; without a name it gets one. It belongs to who.
func (p *Platform) Create(ctx context.Context, who identity.Who, name string) (catalog.App, error) {
	if who.ID == 0 {
		return catalog.App{}, fault.SignIn("sign in to create an app")
	}
	if err := p.cfg.Identity.Check(ctx, who, identity.Manage, identity.Object{Kind: Kind, OwnerID: who.ID}); err != nil {
		return catalog.App{}, err
	}
	if name == "" {
		name = randomName()
	}
	if err := CheckName(name); err != nil {
		return catalog.App{}, err
	}
	a, err := p.catalog.Create(ctx, name, p.Host(catalog.App{Name: name}), who.ID, who.Name)
	if err != nil {
		return catalog.App{}, err
	}
	if err := p.cfg.Source.Init(p.remote(a).Dir); err != nil {
		return catalog.App{}, errors.Join(fmt.Errorf("make the remote of %s: %w", name, err), p.catalog.Delete(ctx, a.ID))
	}
	return a, p.controller.Add(ctx, a)
}

// Apps lists the apps that who may see.
func (p *Platform) Apps(ctx context.Context, who identity.Who) ([]catalog.App, error) {
	if who.Stranger() {
		return nil, fault.SignIn("sign in to see your apps")
	}
	visible, args := p.cfg.Identity.Visible(who, Kind, "apps_app.id", "apps_app.owner_id", "0")
	return p.catalog.Apps(ctx, "destroying = 0 AND ("+visible+")", args...)
}

// Link makes pushes to a branch of a repository deploy the app. who must be allowed to
// change the app and to see the repository, and so must the app's owner: now, and whenever
// the app is deployed.
func (p *Platform) Link(ctx context.Context, who identity.Who, name, path, branch string) (catalog.App, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return a, err
	}
	if path == "" {
		a.Repo, a.RepoPath, a.Branch = 0, "", ""
		return a, p.catalog.Link(ctx, a.ID, 0, "", "")
	}
	if branch == "" {
		branch = "main"
	}
	if strings.HasPrefix(branch, "-") || strings.ContainsAny(branch, " ~^:?*[\\\x00\n") || strings.Contains(branch, "..") {
		return a, fault.Invalid("%q is not the name of a branch", branch).On("branch")
	}
	id, canonical, err := p.cfg.Source.Repo(ctx, who, path)
	if err != nil {
		return a, err
	}
	a.Repo, a.RepoPath, a.Branch = id, canonical, branch
	if err := p.maySource(ctx, identity.View, a); err != nil {
		return a, err
	}
	return a, p.catalog.Link(ctx, a.ID, id, canonical, branch)
}

// Transfer gives the app to somebody else.
func (p *Platform) Transfer(ctx context.Context, who identity.Who, name, to string) error {
	a, err := p.App(ctx, who, identity.Manage, name)
	if err != nil {
		return err
	}
	owner, err := p.cfg.Identity.Owner(ctx, to)
	if fault.Is(err, fault.KindNotFound) {
		return fault.NotFound("No User matches the given query.")
	}
	if err != nil {
		return err
	}
	return p.catalog.SetOwner(ctx, a.ID, owner.ID)
}

// Destroy ends an app and frees everything it has. Its name can be taken again at once.
func (p *Platform) Destroy(ctx context.Context, who identity.Who, name string) error {
	a, err := p.App(ctx, who, identity.Manage, name)
	if err != nil {
		return err
	}
	if err := p.audit(ctx, who, "app.destroy", a.Name, ""); err != nil {
		return err
	}
	return p.pipeline.Exclusively(ctx, a, func(ctx context.Context) error {
		if err := p.catalog.Destroying(ctx, a.ID); err != nil {
			return err
		}
		return p.free(ctx, a)
	})
}

// free removes what an app has; the records go last, so that a crash leaves them to find
// the rest by.
func (p *Platform) free(ctx context.Context, a catalog.App) error {
	if err := p.controller.Destroy(ctx, a); err != nil {
		return err
	}
	builds, err := p.catalog.Builds(ctx, a.ID, 0)
	if err != nil {
		return err
	}
	for _, artifact := range artifacts(builds) {
		if err := p.cfg.Runner.Discard(ctx, artifact); err != nil {
			p.cfg.Log.Warn("could not discard what a build left", "app", a.Name, "artifact", artifact, "err", err)
		}
	}
	p.pipeline.Abort(a.ID)
	if err := p.cfg.Builder.Forget(ctx, a.UUID); err != nil {
		return err
	}
	for _, b := range builds {
		if err := p.pipeline.Discard(b); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(p.remote(a).Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the remote of %s: %w", a.Name, err)
	}
	err = p.catalog.DB().Tx(ctx, func(tx *db.Tx) error { return p.cfg.Identity.ForgetObject(ctx, tx, Kind, a.ID) })
	if err != nil {
		return err
	}
	p.pipeline.Forget(a.ID)
	return p.catalog.Delete(ctx, a.ID)
}

// artifacts are what builds left, each once. Images that were given belong to others.
func artifacts(builds []catalog.Build) []runner.Artifact {
	var list []runner.Artifact
	for _, b := range builds {
		if artifact := b.Result.Artifact; artifact != (runner.Artifact{}) && b.SHA != "" && !slices.Contains(list, artifact) {
			list = append(list, artifact)
		}
	}
	return list
}

func (p *Platform) audit(ctx context.Context, who identity.Who, action, object, detail string) error {
	return p.catalog.DB().Tx(ctx, func(tx *db.Tx) error {
		return p.cfg.Identity.Audit(ctx, tx, who, action, "app "+object, detail)
	})
}

// randomName is for those who do not want to think of one.
func randomName() string {
	adjectives := strings.Fields("brisk calm steady quiet bright gentle swift amber coral misty sunny tidal northern lucky hidden silver")
	nouns := strings.Fields("sampan harbor tiller anchor current lagoon heron kelp mooring oar pearl reef river sail tide wharf")
	var b [4]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s-%s-%02x%02x", adjectives[int(b[0])%len(adjectives)], nouns[int(b[1])%len(nouns)], b[2], b[3])
}

// Owns reports whether somebody still has apps.
func (p *Platform) Owns(ctx context.Context, owner int64) (bool, error) {
	apps, err := p.catalog.Apps(ctx, "owner_id = ?", owner)
	return len(apps) > 0, err
}
