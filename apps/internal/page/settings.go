package page

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"sampan.dev/sampan/apps/internal/platform"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

// A value is one line of the configuration.
type value struct{ Key, Value string }

func (p *Pages) settings(w http.ResponseWriter, r *http.Request) error {
	a, _, f, err := p.find(r, "settings")
	if err != nil {
		return err
	}
	_, cfg, err := p.platform.Config(r.Context(), identity.Of(r), a.Name)
	if err != nil {
		return err
	}
	_, domains, err := p.platform.Domains(r.Context(), identity.Of(r), a.Name)
	if err != nil {
		return err
	}
	var values []value
	for _, key := range slices.Sorted(maps.Keys(cfg.Settings.Values)) {
		values = append(values, value{key, cfg.Settings.Values[key]})
	}
	return p.ui.Render(w, r, "app-settings", map[string]any{
		"App": a, "Values": values, "Domains": domains, "Formation": f, "Memory": cfg.Settings.Memory, "CPU": cfg.Settings.CPU,
	})
}

// setConfig sets one value, or takes one away.
func (p *Pages) setConfig(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Key    string `form:"key"`
		Value  string `form:"value"`
		Remove string `form:"remove"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	patch := platform.Patch{Values: map[string]*string{}}
	if in.Remove != "" {
		patch.Values[in.Remove] = nil
	} else {
		text := strings.ReplaceAll(in.Value, "\r\n", "\n")
		patch.Values[strings.TrimSpace(in.Key)] = &text
	}
	_, _, err := p.platform.SetConfig(r.Context(), identity.Of(r), r.PathValue("app"), patch)
	return p.back(w, r, "/settings", "app.done.config", err)
}

func (p *Pages) source(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Repository string `form:"repository"`
		Branch     string `form:"branch"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	_, err := p.platform.Link(r.Context(), identity.Of(r), r.PathValue("app"), strings.TrimSpace(in.Repository), strings.TrimSpace(in.Branch))
	if fault.Is(err, fault.KindNotFound) && in.Repository != "" {
		err = fault.Invalid("there is no repository %s", in.Repository).Try("write it as OWNER/NAME")
	}
	return p.back(w, r, "/settings", "app.done.source", err)
}

func (p *Pages) addDomain(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Domain string `form:"domain"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	_, _, err := p.platform.AddDomain(r.Context(), identity.Of(r), r.PathValue("app"), in.Domain)
	return p.back(w, r, "/settings", "app.done.domain", err)
}

func (p *Pages) removeDomain(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Domain string `form:"domain"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	err := p.platform.RemoveDomain(r.Context(), identity.Of(r), r.PathValue("app"), in.Domain)
	return p.back(w, r, "/settings", "app.done.domain-removed", err)
}

func (p *Pages) destroy(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Confirm string `form:"confirm"`
	}
	if err := web.Bind(r, &in); err != nil {
		return err
	}
	name := r.PathValue("app")
	if in.Confirm != name {
		return p.back(w, r, "/settings", "", fault.Invalid("%q is not the name of this app; nothing was destroyed", in.Confirm))
	}
	if err := p.platform.Destroy(r.Context(), identity.Of(r), name); err != nil {
		return p.back(w, r, "/settings", "", err)
	}
	web.Flash(r, "done", web.LocaleOf(r).T("app.done.destroy", name))
	return web.Redirect(w, r, "/-/apps")
}
