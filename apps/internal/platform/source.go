package platform

import (
	"context"
	"fmt"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// maySource asks whether an app's owner may act on the repository that it follows: rights
// can be lost after the two were linked.
func (p *Platform) maySource(ctx context.Context, act identity.Action, a catalog.App) error {
	if a.Repo == 0 {
		return nil
	}
	owner, err := p.cfg.Identity.WhoByID(ctx, a.Owner)
	if fault.Is(err, fault.KindNotFound) {
		owner, err = identity.Who{ID: a.Owner}, nil // an organisation owns what is its own
	}
	if err != nil {
		return fmt.Errorf("find the owner of %s: %w", a.Name, err)
	}
	err = p.cfg.Source.May(ctx, owner, act, a.Repo)
	if fault.Is(err, fault.KindNotFound) {
		return fault.Forbidden("the owner of %s may not see the repository %s", a.Name, a.RepoPath).
			Try("ask for access to it, or let the app follow another one")
	}
	return err
}
