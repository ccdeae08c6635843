package deis

import (
	"crypto/sha256"
	"fmt"
	"net/http"

	"sampan.dev/sampan/apps/internal/catalog"
	"sampan.dev/sampan/internal/identity"
)

type app struct {
	UUID      string         `json:"uuid"`
	ID        string         `json:"id"`
	Owner     string         `json:"owner"`
	Structure map[string]int `json:"structure"`
	Created   string         `json:"created"`
	Updated   string         `json:"updated"`
	URL       string         `json:"url"`
	GitURL    string         `json:"git_url"`
	Source    string         `json:"source,omitempty"`
	Branch    string         `json:"branch,omitempty"`
	Isolated  bool           `json:"isolated"`
}

// uuid is one for things that have none: the same for the same thing.
func uuid(kind string, id int64) string {
	b := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, id))
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func (a *API) newApp(r *http.Request, c catalog.App) (app, error) {
	owner, err := a.platform.OwnerName(r.Context(), c)
	if err != nil {
		return app{}, err
	}
	f, err := a.platform.Counts(r.Context(), c)
	if err != nil {
		return app{}, err
	}
	structure := map[string]int{}
	for process, n := range f.Counts {
		structure[process] = n
	}
	return app{
		UUID: c.UUID, ID: c.Name, Owner: owner, Structure: structure, Created: stamp(c.Created), Updated: stamp(c.Updated),
		URL: a.platform.URL(c), GitURL: a.platform.GitURL(c), Source: c.RepoPath, Branch: c.Branch, Isolated: a.platform.Traits().Isolated,
	}, nil
}

func (a *API) apps(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	found, err := a.platform.Apps(r.Context(), who)
	if err != nil {
		return err
	}
	apps := make([]app, 0, len(found))
	for _, c := range found {
		one, err := a.newApp(r, c)
		if err != nil {
			return err
		}
		apps = append(apps, one)
	}
	return list(w, r, apps)
}

func (a *API) createApp(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ ID string }
	if err := read(r, &in); err != nil {
		return err
	}
	c, err := a.platform.Create(r.Context(), who, in.ID)
	if err != nil {
		return err
	}
	one, err := a.newApp(r, c)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, one)
}

func (a *API) app(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, err := a.platform.App(r.Context(), who, identity.View, r.PathValue("app"))
	if err != nil {
		return err
	}
	one, err := a.newApp(r, c)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, one)
}

func (a *API) transfer(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Owner string }
	if err := read(r, &in); err != nil {
		return err
	}
	if in.Owner != "" {
		if err := a.platform.Transfer(r.Context(), who, r.PathValue("app"), in.Owner); err != nil {
			return err
		}
	}
	return answer(w, http.StatusOK, nil)
}

func (a *API) destroy(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	if err := a.platform.Destroy(r.Context(), who, r.PathValue("app")); err != nil {
		return err
	}
	return answer(w, http.StatusNoContent, nil)
}

func (a *API) source(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Repository, Branch string }
	if err := read(r, &in); err != nil {
		return err
	}
	c, err := a.platform.Link(r.Context(), who, r.PathValue("app"), in.Repository, in.Branch)
	if err != nil {
		return err
	}
	one, err := a.newApp(r, c)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, one)
}

type domain struct {
	App     string `json:"app"`
	Owner   string `json:"owner"`
	Domain  string `json:"domain"`
	Created string `json:"created"`
	Updated string `json:"updated"`
}

func newDomain(c catalog.App, d catalog.Domain) domain {
	return domain{App: c.Name, Owner: d.Author, Domain: d.Name, Created: stamp(d.Created), Updated: stamp(d.Created)}
}

// domains lists the app's own host first, by its short name, as the API has it.
func (a *API) domains(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	c, found, err := a.platform.Domains(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return err
	}
	owner, err := a.platform.OwnerName(r.Context(), c)
	if err != nil {
		return err
	}
	domains := []domain{newDomain(c, catalog.Domain{Name: c.Name, Author: owner, Created: c.Created})}
	for _, d := range found {
		domains = append(domains, newDomain(c, d))
	}
	return list(w, r, domains)
}

func (a *API) addDomain(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Domain string }
	if err := read(r, &in); err != nil {
		return err
	}
	c, d, err := a.platform.AddDomain(r.Context(), who, r.PathValue("app"), in.Domain)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, newDomain(c, d))
}

func (a *API) removeDomain(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	if err := a.platform.RemoveDomain(r.Context(), who, r.PathValue("app"), r.PathValue("domain")); err != nil {
		return err
	}
	return answer(w, http.StatusNoContent, nil)
}

func (a *API) perms(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	users, err := a.platform.Sharers(r.Context(), who, r.PathValue("app"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string][]string{"users": users})
}

func (a *API) share(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Username string }
	if err := read(r, &in); err != nil {
		return err
	}
	if err := a.platform.Share(r.Context(), who, r.PathValue("app"), in.Username); err != nil {
		return err
	}
	return answer(w, http.StatusCreated, nil)
}

func (a *API) unshare(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	if err := a.platform.Unshare(r.Context(), who, r.PathValue("app"), r.PathValue("user")); err != nil {
		return err
	}
	return answer(w, http.StatusNoContent, nil)
}
