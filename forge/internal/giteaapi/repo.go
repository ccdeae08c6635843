package giteaapi

import (
	"context"
	"net/http"
	"time"

	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

type permissions struct {
	Admin bool `json:"admin"`
	Push  bool `json:"push"`
	Pull  bool `json:"pull"`
}

type repository struct {
	ID            int64       `json:"id"`
	Owner         user        `json:"owner"`
	Name          string      `json:"name"`
	FullName      string      `json:"full_name"`
	Description   string      `json:"description"`
	Empty         bool        `json:"empty"`
	Private       bool        `json:"private"`
	Internal      bool        `json:"internal"`
	Fork          bool        `json:"fork"`
	Template      bool        `json:"template"`
	Mirror        bool        `json:"mirror"`
	Archived      bool        `json:"archived"`
	Size          int         `json:"size"`
	HTMLURL       string      `json:"html_url"`
	URL           string      `json:"url"`
	SSHURL        string      `json:"ssh_url"`
	CloneURL      string      `json:"clone_url"`
	DefaultBranch string      `json:"default_branch"`
	CreatedAt     time.Time   `json:"created_at"`
	UpdatedAt     time.Time   `json:"updated_at"`
	Permissions   permissions `json:"permissions"`
}

func (a *API) repository(ctx context.Context, who identity.Who, r repo.Repo) (repository, error) {
	ssh, clone := a.cfg.Clone(r.Path())
	role, err := a.cfg.Identity.RoleOn(ctx, who, r.Object())
	if err != nil {
		return repository{}, err
	}
	updated := r.Pushed
	if updated.IsZero() {
		updated = r.Created
	}
	return repository{
		ID: r.ID, Owner: user{ID: r.OwnerID, Login: r.Owner, UserName: r.Owner, HTMLURL: a.cfg.URL + "/" + r.Owner},
		Name: r.Name, FullName: r.Path(), Description: r.Description, Empty: r.Pushed.IsZero(),
		Private: r.Visibility == identity.Private, Internal: r.Visibility == identity.Internal,
		HTMLURL: a.cfg.URL + "/" + r.Path(), URL: a.cfg.URL + "/api/v1/repos/" + r.Path(), SSHURL: ssh, CloneURL: clone,
		DefaultBranch: r.Default, CreatedAt: r.Created, UpdatedAt: updated,
		Permissions: permissions{Admin: role >= identity.Manager, Push: role >= identity.Writer, Pull: role >= identity.Reader},
	}, nil
}

type paging struct {
	Page  int `query:"page"`
	Limit int `query:"limit"`
}

// list answers with the repositories of one owner, or of everybody.
func (a *API) list(r *http.Request, who identity.Who, owner int64) (int, any, error) {
	in := paging{Page: 1, Limit: 50}
	if err := web.Bind(r, &in); err != nil {
		return 0, nil, err
	}
	in.Page, in.Limit = min(max(in.Page, 1), 100_000), min(max(in.Limit, 1), 100)
	repos, err := a.cfg.Repos.List(r.Context(), who, repo.Filter{OwnerID: owner, Limit: in.Limit, Offset: (in.Page - 1) * in.Limit})
	if err != nil {
		return 0, nil, err
	}
	answer := make([]repository, 0, len(repos))
	for _, found := range repos {
		shape, err := a.repository(r.Context(), who, found)
		if err != nil {
			return 0, nil, err
		}
		answer = append(answer, shape)
	}
	return http.StatusOK, answer, nil
}

// myRepos are the repositories that one may see: one's own, and those one was let into.
func (a *API) myRepos(r *http.Request, who identity.Who) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	return a.list(r, who, 0)
}

func (a *API) reposOf(r *http.Request, who identity.Who) (int, any, error) {
	owner, err := a.cfg.Identity.Owner(r.Context(), r.PathValue("owner"))
	if err != nil {
		return 0, nil, err
	}
	return a.list(r, who, owner.ID)
}

type createRepo struct {
	Name          string `json:"name"`
	Description   string `json:"description"`
	Private       bool   `json:"private"`
	DefaultBranch string `json:"default_branch"`
	AutoInit      bool   `json:"auto_init"`
}

func (a *API) createMine(r *http.Request, who identity.Who) (int, any, error) {
	return a.create(r, who, who.Name)
}

func (a *API) createForOrg(r *http.Request, who identity.Who) (int, any, error) {
	return a.create(r, who, r.PathValue("org"))
}

func (a *API) create(r *http.Request, who identity.Who, owner string) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	var in createRepo
	if err := web.ReadJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if in.AutoInit {
		return 0, nil, fault.Invalid("auto_init is not offered").Try("push a first commit instead")
	}
	visibility := identity.Public
	if in.Private {
		visibility = identity.Private
	}
	made, err := a.cfg.Repos.Create(r.Context(), who, repo.New{
		Owner: owner, Name: in.Name, Description: in.Description, Visibility: visibility, Default: in.DefaultBranch,
	})
	if err != nil {
		return 0, nil, err
	}
	answer, err := a.repository(r.Context(), who, made)
	return http.StatusCreated, answer, err
}

func (a *API) find(r *http.Request, who identity.Who, act identity.Action) (repo.Repo, error) {
	return a.cfg.Repos.Find(r.Context(), who, act, r.PathValue("owner"), r.PathValue("repo"))
}

func (a *API) showRepo(r *http.Request, who identity.Who) (int, any, error) {
	found, err := a.find(r, who, identity.View)
	if err != nil {
		return 0, nil, err
	}
	answer, err := a.repository(r.Context(), who, found)
	return http.StatusOK, answer, err
}

type editRepo struct {
	Name          *string `json:"name"`
	Description   *string `json:"description"`
	Private       *bool   `json:"private"`
	DefaultBranch *string `json:"default_branch"`
}

func (a *API) editRepo(r *http.Request, who identity.Who) (int, any, error) {
	found, err := a.find(r, who, identity.Manage)
	if err != nil {
		return 0, nil, err
	}
	var in editRepo
	if err := web.ReadJSON(r, &in); err != nil {
		return 0, nil, err
	}
	changes := repo.Changes{Name: in.Name, Description: in.Description, Default: in.DefaultBranch}
	if in.Private != nil {
		visibility := identity.Public
		if *in.Private {
			visibility = identity.Private
		}
		changes.Visibility = &visibility
	}
	changed, err := a.cfg.Repos.Update(r.Context(), who, found.ID, changes)
	if err != nil {
		return 0, nil, err
	}
	answer, err := a.repository(r.Context(), who, changed)
	return http.StatusOK, answer, err
}

func (a *API) deleteRepo(r *http.Request, who identity.Who) (int, any, error) {
	found, err := a.find(r, who, identity.Manage)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, a.cfg.Repos.Delete(r.Context(), who, found.ID)
}
