package platform

import (
	"context"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// Sharers lists the people with whom an app is shared.
func (p *Platform) Sharers(ctx context.Context, who identity.Who, name string) ([]string, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return nil, err
	}
	grants, err := p.cfg.Identity.Grants(ctx, identity.System(), object(a))
	if err != nil {
		return nil, err
	}
	users := []string{}
	for _, g := range grants {
		if g.Subject.Person != 0 {
			users = append(users, g.Name)
		}
	}
	return users, nil
}

// Share lets somebody work on an app.
func (p *Platform) Share(ctx context.Context, who identity.Who, name, user string) error {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return err
	}
	subject, err := p.person(ctx, user)
	if err != nil {
		return err
	}
	// Those who may change an app may share it, as the controller API has it; Grant alone asks
	// for more.
	if err := p.cfg.Identity.Grant(ctx, identity.System(), object(a), subject, identity.Writer); err != nil {
		return err
	}
	return p.audit(ctx, who, "app.share", a.Name, user)
}

// Unshare takes that back. People may leave an app by themselves.
func (p *Platform) Unshare(ctx context.Context, who identity.Who, name, user string) error {
	act := identity.Manage
	if user == who.Name {
		act = identity.View
	}
	a, err := p.App(ctx, who, act, name)
	if err != nil {
		return err
	}
	subject, err := p.person(ctx, user)
	if err != nil {
		return err
	}
	if err := p.cfg.Identity.Revoke(ctx, identity.System(), object(a), subject); err != nil {
		return err
	}
	return p.audit(ctx, who, "app.unshare", a.Name, user)
}

func (p *Platform) person(ctx context.Context, name string) (identity.Subject, error) {
	o, err := p.cfg.Identity.Owner(ctx, name)
	if err == nil && !o.Org {
		return identity.Subject{Person: o.ID}, nil
	}
	if err == nil || fault.Is(err, fault.KindNotFound) {
		return identity.Subject{}, fault.NotFound("No User matches the given query.")
	}
	return identity.Subject{}, err
}
