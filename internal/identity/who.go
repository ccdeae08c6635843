package identity

import (
	"context"
	"net/http"
	"slices"

	"sampan.dev/sampan/internal/fault"
)

// Who is somebody who asks for something. The zero Who is a stranger.
type Who struct {
	ID     int64
	Name   string
	Admin  bool
	Scope  *Scope // nil: unrestricted
	system bool
}

// System is Sampan itself, which may do everything.
func System() Who { return Who{Name: "sampan", system: true} }

// Stranger reports that nobody has signed in.
func (w Who) Stranger() bool { return w.ID == 0 && !w.system }

// IsSystem reports that Sampan itself asks.
func (w Who) IsSystem() bool { return w.system }

// Can reports that the scope of who allows a right.
func (w Who) Can(r Right) bool { return w.Scope == nil || slices.Contains(w.Scope.Rights, r) }

// Administers reports that who may do everything. A token of an administrator has that
// power only when it says so.
func (w Who) Administers() bool { return w.system || w.Admin && w.Can(RightAdmin) }

// acts reports that who may change the account of a person.
func (w Who) acts(person int64) bool {
	return w.Administers() || w.ID != 0 && w.ID == person && w.Can(RightPerson)
}

// mustAct is acts as an error.
func (w Who) mustAct(person int64) error {
	switch {
	case w.acts(person):
		return nil
	case w.Stranger():
		return fault.SignIn("sign in first")
	case w.ID == person:
		return fault.Forbidden("this token may not change your account").Try("make one with the right %q", RightPerson)
	}
	return fault.NotFound("there is no such person")
}

func (w Who) mustAdminister() error {
	switch {
	case w.Administers():
		return nil
	case w.Stranger():
		return fault.SignIn("sign in first")
	}
	return fault.Forbidden("only an administrator may do this")
}

type whoKey struct{}

// WithWho is r made by who.
func WithWho(r *http.Request, who Who) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), whoKey{}, who))
}

// Of is who made the request; the middleware has found it out.
func Of(r *http.Request) Who {
	who, _ := r.Context().Value(whoKey{}).(Who)
	return who
}
