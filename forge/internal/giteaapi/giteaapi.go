// Package giteaapi answers as much of the Gitea API, version 1, as the command line and
// simple clients need: who am I, repositories, SSH keys, tokens, new people.
//
// Shapes and statuses are those of Gitea 1.24. A list is an array, paged by page and limit;
// an error is {"message", "url"}. Who asks is told as on every door: a token ("token …",
// "Bearer …"), a password, or the session of a browser.
package giteaapi

import (
	"net/http"
	"strconv"
	"strings"

	"sampan.dev/sampan/forge/internal/repo"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

// version is what clients compare with to know what they may ask for.
const version = "1.24.0+sampan"

// Config of an API.
type Config struct {
	Repos    *repo.Service
	Identity *identity.Service
	URL      string // of the pages, without a slash at the end
	Clone    func(path string) (ssh, http string)
	Who      func(r *http.Request) (identity.Who, error)
}

// An API serves /api/v1.
type API struct{ cfg Config }

// New makes an API.
func New(cfg Config) *API { return &API{cfg} }

// Routes adds the addresses.
func (a *API) Routes(app *web.App) {
	for pattern, h := range map[string]handler{
		"GET /version":                         a.version,
		"GET /user":                            a.me,
		"GET /user/repos":                      a.myRepos,
		"POST /user/repos":                     a.createMine,
		"POST /orgs/{org}/repos":               a.createForOrg,
		"GET /users/{owner}/repos":             a.reposOf,
		"GET /repos/{owner}/{repo}":            a.showRepo,
		"PATCH /repos/{owner}/{repo}":          a.editRepo,
		"DELETE /repos/{owner}/{repo}":         a.deleteRepo,
		"GET /user/keys":                       a.keys,
		"POST /user/keys":                      a.addKey,
		"DELETE /user/keys/{id}":               a.removeKey,
		"GET /users/{username}/tokens":         a.tokens,
		"POST /users/{username}/tokens":        a.newToken,
		"DELETE /users/{username}/tokens/{id}": a.revokeToken,
		"POST /admin/users":                    a.createPerson,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		app.Handle(method+" /api/v1"+path, a.serve(h))
	}
	app.Handle("/api/v1/", a.serve(func(*http.Request, identity.Who) (int, any, error) {
		return 0, nil, fault.NotFound("this part of the API is not offered")
	}))
}

// A handler answers with a status and what becomes JSON; nil is no body.
type handler func(r *http.Request, who identity.Who) (status int, answer any, err error)

func (a *API) serve(h handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		who, err := a.cfg.Who(r)
		if err != nil {
			return a.fail(w, err)
		}
		status, answer, err := h(r, who)
		if err != nil {
			return a.fail(w, err)
		}
		if answer == nil {
			w.WriteHeader(status)
			return nil
		}
		return web.JSON(w, status, answer)
	}
}

type failure struct {
	Message string `json:"message"`
	URL     string `json:"url"`
}

// fail shows a fault in the API's shape. Anything else is not for the client.
func (a *API) fail(w http.ResponseWriter, err error) error {
	status := web.StatusOf(err)
	if status >= 500 {
		if _, ok := fault.Of(err); !ok {
			return err
		}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Sampan", charset="UTF-8"`)
	}
	if fault.Is(err, fault.KindInvalid) {
		status = http.StatusUnprocessableEntity // Gitea's status for what it cannot accept
	}
	return web.JSON(w, status, failure{Message: err.Error(), URL: a.cfg.URL + "/api/v1"})
}

func (a *API) version(*http.Request, identity.Who) (int, any, error) {
	return http.StatusOK, map[string]string{"version": version}, nil
}

// signedIn is what everything but public repositories asks for.
func signedIn(who identity.Who) error {
	if who.ID == 0 {
		return fault.SignIn("token is required").Try("make one in your settings and send it as `Authorization: token …`")
	}
	return nil
}

// idOf reads the number in an address.
func idOf(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, fault.NotFound("%.40q is not a number", r.PathValue("id"))
	}
	return id, nil
}
