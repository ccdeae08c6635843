package deis

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

// A user has no ID on purpose: clients print it as 0.
type user struct {
	Username    string   `json:"username"`
	Email       string   `json:"email"`
	FirstName   string   `json:"first_name"`
	LastName    string   `json:"last_name"`
	Superuser   bool     `json:"is_superuser"`
	Staff       bool     `json:"is_staff"`
	Active      bool     `json:"is_active"`
	LastLogin   string   `json:"last_login"`
	Joined      string   `json:"date_joined"`
	Groups      []string `json:"groups"`
	Permissions []string `json:"user_permissions"`
}

func newUser(p identity.Person) user {
	first, last, _ := strings.Cut(p.FullName, " ")
	return user{
		Username: p.Name, Email: p.Email, FirstName: first, LastName: last, Superuser: p.Admin, Staff: p.Admin, Active: p.Active,
		LastLogin: stamp(time.Now()), Joined: stamp(p.Created), Groups: []string{}, Permissions: []string{},
	}
}

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

func (a *API) root(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	return answer(w, http.StatusOK, map[string]string{})
}

// register makes the first person with the first-run code, later ones for administrators.
func (a *API) register(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct {
		Username, Password, Email, Setup string
		FirstName                        string `json:"first_name"`
		LastName                         string `json:"last_name"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	for field, value := range map[string]string{"username": in.Username, "password": in.Password} {
		if value == "" {
			return fault.Invalid("This field may not be blank.").On(field)
		}
	}
	n := identity.NewPerson{
		Name: in.Username, FullName: strings.TrimSpace(in.FirstName + " " + in.LastName), Email: in.Email, Password: in.Password,
	}
	code, err := a.identity.SetupCode(r.Context())
	if err != nil {
		return err
	}
	var made identity.Person
	switch {
	case code != "" && in.Setup == "":
		return fault.Forbidden("this server has no user yet, and only who started it may make the first").
			Try("send the code of the first-run link that `sampan serve` printed in the field \"setup\"")
	case code != "":
		made, err = a.identity.Setup(r.Context(), in.Setup, n)
	case !who.Administers():
		return fault.Forbidden("only an administrator may register users")
	default:
		made, err = a.identity.Create(r.Context(), who, n)
	}
	if f, ok := fault.Of(err); ok && f.Kind == fault.KindConflict {
		return fault.Invalid("A user with that username already exists.").On("username")
	}
	if f, ok := fault.Of(err); ok && f.Field == "name" {
		return f.On("username")
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, newUser(made))
}

func (a *API) login(w http.ResponseWriter, r *http.Request, _ identity.Who) error {
	var in struct{ Username, Password string }
	if err := read(r, &in); err != nil {
		return err
	}
	who, err := a.identity.Verify(r.Context(), in.Username, in.Password, r.RemoteAddr)
	if fault.Is(err, fault.KindSignIn) {
		return fault.Invalid("Unable to log in with provided credentials.").On("non_field_errors")
	}
	if err != nil {
		return err
	}
	return a.token(w, r, who)
}

func (a *API) token(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	// The text tells two sign-ins in one second apart: names of tokens are unique.
	name := "signed in " + stamp(time.Now()) + " " + strings.ToLower(rand.Text()[:6])
	secret, _, err := a.identity.NewToken(r.Context(), who, name, nil)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]string{"token": secret})
}

func (a *API) whoami(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	p, err := a.identity.PersonByID(r.Context(), who, who.ID)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, newUser(p))
}

// named finds the person a request is about: who, or for administrators another.
func (a *API) named(r *http.Request, who identity.Who, name string) (identity.Person, error) {
	if name == "" || name == who.Name {
		return a.identity.PersonByID(r.Context(), who, who.ID)
	}
	if !who.Administers() {
		return identity.Person{}, fault.Forbidden("You do not have permission to perform this action.")
	}
	p, err := a.identity.Person(r.Context(), who, name)
	if fault.Is(err, fault.KindNotFound) {
		return p, notFound("User")
	}
	return p, err
}

func (a *API) passwd(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct {
		Username, Password string
		New                string `json:"new_password"`
	}
	if err := read(r, &in); err != nil {
		return err
	}
	p, err := a.named(r, who, in.Username)
	if err != nil {
		return err
	}
	if err := a.identity.SetPassword(r.Context(), who, p.ID, in.Password, in.New); err != nil {
		if fault.Is(err, fault.KindForbidden) {
			return fault.SignIn("Current password does not match")
		}
		return err
	}
	return answer(w, http.StatusOK, map[string]string{"status": "password set"})
}

func (a *API) newToken(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct {
		Username string
		All      bool
	}
	if err := read(r, &in); err != nil {
		return err
	}
	if in.All || (in.Username != "" && in.Username != who.Name) {
		return fault.Forbidden("tokens of others cannot be made").Try("they sign in again and revoke the old ones on their settings page")
	}
	return a.token(w, r, who)
}

func (a *API) cancel(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ Username string }
	if err := read(r, &in); err != nil {
		return err
	}
	p, err := a.named(r, who, in.Username)
	if err != nil {
		return err
	}
	owns, err := a.platform.Owns(r.Context(), p.ID)
	if err != nil {
		return err
	}
	if owns {
		return fault.Conflict("%s still has applications assigned. Delete or transfer ownership", p.Name)
	}
	if err := a.identity.Delete(r.Context(), who, p.ID); err != nil {
		return err
	}
	return answer(w, http.StatusNoContent, nil)
}

func (a *API) users(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	if !who.Administers() {
		return fault.Forbidden("You do not have permission to perform this action.")
	}
	people, err := a.identity.People(r.Context(), who)
	if err != nil {
		return err
	}
	users := make([]user, 0, len(people))
	for _, p := range people {
		users = append(users, newUser(p))
	}
	return list(w, r, users)
}

type key struct {
	ID          string `json:"id"`
	UUID        string `json:"uuid"`
	Owner       string `json:"owner"`
	Public      string `json:"public"`
	Fingerprint string `json:"fingerprint"`
	Created     string `json:"created"`
	Updated     string `json:"updated"`
}

func newKey(who identity.Who, k identity.Key) key {
	return key{
		ID: k.Title, UUID: uuid("key", k.ID), Owner: who.Name, Public: k.Public, Fingerprint: k.Fingerprint,
		Created: stamp(k.Created), Updated: stamp(k.Created),
	}
}

func (a *API) keys(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	found, err := a.identity.Keys(r.Context(), who, who.ID)
	if err != nil {
		return err
	}
	keys := make([]key, 0, len(found))
	for _, k := range found {
		keys = append(keys, newKey(who, k))
	}
	return list(w, r, keys)
}

func (a *API) addKey(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	var in struct{ ID, Public string }
	if err := read(r, &in); err != nil {
		return err
	}
	k, err := a.identity.AddKey(r.Context(), who, in.ID, in.Public)
	if f, ok := fault.Of(err); ok {
		switch f.Kind {
		case fault.KindConflict:
			return fault.Invalid("Public Key is already in use").On("public")
		case fault.KindInvalid:
			return f.On("public")
		}
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, newKey(who, k))
}

func (a *API) find(r *http.Request, who identity.Who) (identity.Key, error) {
	found, err := a.identity.Keys(r.Context(), who, who.ID)
	for _, k := range found {
		if k.Title == r.PathValue("id") {
			return k, nil
		}
	}
	if err == nil {
		err = notFound("SSH Key")
	}
	return identity.Key{}, err
}

func (a *API) key(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	k, err := a.find(r, who)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, newKey(who, k))
}

func (a *API) removeKey(w http.ResponseWriter, r *http.Request, who identity.Who) error {
	k, err := a.find(r, who)
	if err != nil {
		return err
	}
	if err := a.identity.RemoveKey(r.Context(), who, k.ID); err != nil {
		return err
	}
	return answer(w, http.StatusNoContent, nil)
}
