package platform

import (
	"context"
	"regexp"
	"strings"

	"golang.org/x/net/idna"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// CheckDomain makes a host of what was typed: lower case, in ASCII (RFC 5891), and perhaps
// "*." before it.
func CheckDomain(text string) (string, error) {
	bad := fault.Invalid("Hostname does not look valid.").On("domain")
	host := strings.TrimSuffix(strings.TrimSpace(text), ".")
	rest, wild := strings.CutPrefix(host, "*.")
	ascii, err := idna.Lookup.ToASCII(strings.ToLower(rest))
	if err != nil || ascii == "" || len(ascii) > 253 {
		return "", bad
	}
	labels := strings.Split(ascii, ".")
	for _, l := range labels {
		if !label.MatchString(l) {
			return "", bad
		}
	}
	if wild && len(labels) < 2 {
		return "", bad
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "", bad // an address is no name
	}
	if wild {
		return "*." + ascii, nil
	}
	return ascii, nil
}

// Domains lists an app's hosts besides its own.
func (p *Platform) Domains(ctx context.Context, who identity.Who, name string) (catalog.App, []catalog.Domain, error) {
	a, err := p.App(ctx, who, identity.View, name)
	if err != nil {
		return a, nil, err
	}
	list, err := p.catalog.Domains(ctx, a.ID)
	return a, list, err
}

// AddDomain serves an app on one more host. Hosts of Sampan itself, and those at which other
// apps answer by themselves, cannot be taken.
func (p *Platform) AddDomain(ctx context.Context, who identity.Who, name, text string) (catalog.App, catalog.Domain, error) {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return a, catalog.Domain{}, err
	}
	host, err := CheckDomain(text)
	if err != nil {
		return a, catalog.Domain{}, err
	}
	first, below := strings.CutSuffix(host, "."+p.cfg.Domain)
	if !strings.Contains(host, ".") {
		first, below = host, true
	}
	if host == p.cfg.Domain || below && first != a.Name && (CheckName(first) != nil || p.taken(ctx, first)) {
		return a, catalog.Domain{}, fault.Invalid("Domain is already in use by another application").On("domain")
	}
	d, err := p.catalog.AddDomain(ctx, a, who.Name, host)
	if err != nil {
		return a, d, err
	}
	return a, d, p.controller.Refresh(ctx, a)
}

// taken reports whether an app of that name is there.
func (p *Platform) taken(ctx context.Context, name string) bool {
	_, err := p.catalog.App(ctx, name)
	return err == nil
}

// RemoveDomain stops serving an app on a host.
func (p *Platform) RemoveDomain(ctx context.Context, who identity.Who, name, host string) error {
	a, err := p.App(ctx, who, identity.Write, name)
	if err != nil {
		return err
	}
	if ascii, err := CheckDomain(host); err == nil {
		host = ascii
	}
	if err := p.catalog.RemoveDomain(ctx, a, host); err != nil {
		return err
	}
	return p.controller.Refresh(ctx, a)
}
