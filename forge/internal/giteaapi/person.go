package giteaapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
	"sampan.dev/sampan/web"
)

type user struct {
	ID        int64     `json:"id"`
	Login     string    `json:"login"`
	LoginName string    `json:"login_name"`
	UserName  string    `json:"username"`
	FullName  string    `json:"full_name"`
	Email     string    `json:"email"`
	AvatarURL string    `json:"avatar_url"`
	HTMLURL   string    `json:"html_url"`
	Language  string    `json:"language"`
	IsAdmin   bool      `json:"is_admin"`
	Active    bool      `json:"active"`
	Created   time.Time `json:"created"`
}

func (a *API) user(p identity.Person) user {
	return user{ID: p.ID, Login: p.Name, UserName: p.Name, FullName: p.FullName, Email: p.Email, HTMLURL: a.cfg.URL + "/" + p.Name,
		Language: p.Lang, IsAdmin: p.Admin, Active: p.Active, Created: p.Created}
}

func (a *API) me(r *http.Request, who identity.Who) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	p, err := a.cfg.Identity.PersonByID(r.Context(), who, who.ID)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, a.user(p), nil
}

func (a *API) createPerson(r *http.Request, who identity.Who) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	var in struct {
		Username           string `json:"username"`
		FullName           string `json:"full_name"`
		Email              string `json:"email"`
		Password           string `json:"password"`
		MustChangePassword *bool  `json:"must_change_password"` // accepted; a first password is not forced to change
	}
	if err := web.ReadJSON(r, &in); err != nil {
		return 0, nil, err
	}
	p, err := a.cfg.Identity.Create(r.Context(), who, identity.NewPerson{Name: in.Username, FullName: in.FullName, Email: in.Email, Password: in.Password})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, a.user(p), nil
}

type publicKey struct {
	ID          int64     `json:"id"`
	Key         string    `json:"key"`
	URL         string    `json:"url"`
	Title       string    `json:"title"`
	Fingerprint string    `json:"fingerprint"`
	CreatedAt   time.Time `json:"created_at"`
	ReadOnly    bool      `json:"read_only"`
	KeyType     string    `json:"key_type"`
}

func (a *API) publicKey(k identity.Key) publicKey {
	kind, _, _ := strings.Cut(k.Public, " ")
	return publicKey{ID: k.ID, Key: k.Public, URL: a.cfg.URL + "/api/v1/user/keys/" + strconv.FormatInt(k.ID, 10),
		Title: k.Title, Fingerprint: k.Fingerprint, CreatedAt: k.Created, KeyType: kind}
}

func (a *API) keys(r *http.Request, who identity.Who) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	list, err := a.cfg.Identity.Keys(r.Context(), who, who.ID)
	if err != nil {
		return 0, nil, err
	}
	answer := make([]publicKey, 0, len(list))
	for _, k := range list {
		answer = append(answer, a.publicKey(k))
	}
	return http.StatusOK, answer, nil
}

func (a *API) addKey(r *http.Request, who identity.Who) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	var in struct {
		Title    string `json:"title"`
		Key      string `json:"key"`
		ReadOnly bool   `json:"read_only"`
	}
	if err := web.ReadJSON(r, &in); err != nil {
		return 0, nil, err
	}
	if in.ReadOnly {
		return 0, nil, fault.Invalid("read-only keys are not offered").Try("use a token that may only read")
	}
	k, err := a.cfg.Identity.AddKey(r.Context(), who, in.Title, in.Key)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, a.publicKey(k), nil
}

func (a *API) removeKey(r *http.Request, who identity.Who) (int, any, error) {
	if err := signedIn(who); err != nil {
		return 0, nil, err
	}
	id, err := idOf(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, a.cfg.Identity.RemoveKey(r.Context(), who, id)
}

type token struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Sha1      string    `json:"sha1"` // the token, in the answer that makes it; then ""
	LastEight string    `json:"token_last_eight"`
	Scopes    []string  `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
}

// scopeNames are Gitea's names for rights, the wider one of a pair first.
func scopeNames() []struct {
	name  string
	right identity.Right
} {
	return []struct {
		name  string
		right identity.Right
	}{
		{"write:repository", identity.RightRepoWrite}, {"read:repository", identity.RightRepoRead},
		{"write:user", identity.RightPerson}, {"write:admin", identity.RightAdmin},
	}
}

// scopeOf turns names into a scope. Names that are not Gitea's are Sampan's own or wrong,
// which identity tells.
func scopeOf(names []string) *identity.Scope {
	if len(names) == 0 || len(names) == 1 && names[0] == "all" {
		return nil
	}
	scope := &identity.Scope{}
	for _, name := range names {
		found := false
		for _, s := range scopeNames() {
			if s.name == name {
				scope.Rights = append(scope.Rights, s.right)
				found = true
			}
		}
		if !found {
			scope.Rights = append(scope.Rights, identity.Right(name))
		}
	}
	return scope
}

func namesOf(scope *identity.Scope) []string {
	if scope == nil {
		return []string{"all"}
	}
	names := make([]string, 0, len(scope.Rights))
	for _, right := range scope.Rights {
		name := string(right)
		for _, s := range scopeNames() {
			if s.right == right {
				name = s.name
			}
		}
		names = append(names, name)
	}
	return names
}

func shape(t identity.Token, secret string) token {
	return token{ID: t.ID, Name: t.Name, Sha1: secret, LastEight: secret[max(0, len(secret)-8):], Scopes: namesOf(t.Scope), CreatedAt: t.Created}
}

// ofSelf makes sure that the address names who asks: nobody else's tokens are shown.
func ofSelf(r *http.Request, who identity.Who) error {
	if err := signedIn(who); err != nil {
		return err
	}
	if !strings.EqualFold(r.PathValue("username"), who.Name) {
		return fault.NotFound("no such user: %.100s", r.PathValue("username"))
	}
	return nil
}

func (a *API) tokens(r *http.Request, who identity.Who) (int, any, error) {
	if err := ofSelf(r, who); err != nil {
		return 0, nil, err
	}
	list, err := a.cfg.Identity.Tokens(r.Context(), who, who.ID)
	if err != nil {
		return 0, nil, err
	}
	answer := make([]token, 0, len(list))
	for _, t := range list {
		answer = append(answer, shape(t, ""))
	}
	return http.StatusOK, answer, nil
}

func (a *API) newToken(r *http.Request, who identity.Who) (int, any, error) {
	if err := ofSelf(r, who); err != nil {
		return 0, nil, err
	}
	var in struct {
		Name   string   `json:"name"`
		Scopes []string `json:"scopes"`
	}
	if err := web.ReadJSON(r, &in); err != nil {
		return 0, nil, err
	}
	secret, t, err := a.cfg.Identity.NewToken(r.Context(), who, in.Name, scopeOf(in.Scopes))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, shape(t, secret), nil
}

// revokeToken takes a number or, as Gitea does, a name.
func (a *API) revokeToken(r *http.Request, who identity.Who) (int, any, error) {
	if err := ofSelf(r, who); err != nil {
		return 0, nil, err
	}
	list, err := a.cfg.Identity.Tokens(r.Context(), who, who.ID)
	if err != nil {
		return 0, nil, err
	}
	asked := r.PathValue("id")
	for _, t := range list {
		if t.Name == asked || strconv.FormatInt(t.ID, 10) == asked {
			return http.StatusNoContent, nil, a.cfg.Identity.RevokeToken(r.Context(), who, t.ID)
		}
	}
	return 0, nil, fault.NotFound("no such token: %.100s", asked)
}
