// Package fault is the error that a user reads: a kind, one plain sentence, what to do next.
//
// Every door (page, API, SSH line, container API) turns a Fault into its own shape in one
// place; every other error is a bug or a broken machine, is logged with the request's id
// and shown as "Something went wrong (id)". The status of a kind is HTTP's (RFC 9110 §15).
package fault

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind says whose turn it is to act, and how a door answers.
type Kind int

const (
	KindInvalid     Kind = iota // the request makes no sense: 400
	KindSignIn                  // who are you: 401
	KindForbidden               // you may see it but not do this: 403
	KindNotFound                // it does not exist, or not for you: 404
	KindConflict                // it is not in the state for this: 409
	KindTooLarge                // over a limit: 413
	KindTooMany                 // slow down: 429
	KindUnavailable             // not now; the request may be repeated: 503
	KindFull                    // no room on the disk: 507
)

var statuses = [...]int{
	KindInvalid:     http.StatusBadRequest,
	KindSignIn:      http.StatusUnauthorized,
	KindForbidden:   http.StatusForbidden,
	KindNotFound:    http.StatusNotFound,
	KindConflict:    http.StatusConflict,
	KindTooLarge:    http.StatusRequestEntityTooLarge,
	KindTooMany:     http.StatusTooManyRequests,
	KindUnavailable: http.StatusServiceUnavailable,
	KindFull:        http.StatusInsufficientStorage,
}

// A Fault is an error for the user. It is immutable; Try and With return copies.
type Fault struct {
	Kind    Kind
	Message string // one sentence, without a full stop
	Hint    string // what to do next; may be empty
	Field   string // the form field at fault; may be empty
	cause   error
}

func Invalid(format string, args ...any) *Fault     { return build(KindInvalid, format, args) }
func SignIn(format string, args ...any) *Fault      { return build(KindSignIn, format, args) }
func Forbidden(format string, args ...any) *Fault   { return build(KindForbidden, format, args) }
func NotFound(format string, args ...any) *Fault    { return build(KindNotFound, format, args) }
func Conflict(format string, args ...any) *Fault    { return build(KindConflict, format, args) }
func TooLarge(format string, args ...any) *Fault    { return build(KindTooLarge, format, args) }
func TooMany(format string, args ...any) *Fault     { return build(KindTooMany, format, args) }
func Unavailable(format string, args ...any) *Fault { return build(KindUnavailable, format, args) }
func Full(format string, args ...any) *Fault        { return build(KindFull, format, args) }

// build formats as fmt.Errorf does, so that %w keeps a cause for errors.Is.
func build(kind Kind, format string, args []any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{Kind: kind, Message: err.Error(), cause: errors.Unwrap(err)}
}

// Try adds what the user should do next.
func (f *Fault) Try(format string, args ...any) *Fault {
	c := *f
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// On names the form field that the fault is about.
func (f *Fault) On(field string) *Fault {
	c := *f
	c.Field = field
	return &c
}

// Error is the sentence and, after a colon-free break, the hint.
func (f *Fault) Error() string {
	if f.Hint == "" {
		return f.Message
	}
	return f.Message + "; " + f.Hint
}

func (f *Fault) Unwrap() error { return f.cause }

// HTTPStatus is what package web asks an error for.
func (f *Fault) HTTPStatus() int { return statuses[f.Kind] }

// Of finds the Fault in err's chain.
func Of(err error) (*Fault, bool) {
	var f *Fault
	ok := errors.As(err, &f)
	return f, ok
}

// Is reports whether err is a Fault of that kind.
func Is(err error, kind Kind) bool {
	f, ok := Of(err)
	return ok && f.Kind == kind
}

// FromStatus makes the fault that a server answered with, for clients.
func FromStatus(status int, format string, args ...any) *Fault {
	kind := KindUnavailable
	if status < 500 {
		kind = KindInvalid
	}
	for k, s := range statuses {
		if s == status {
			kind = Kind(k)
		}
	}
	return build(kind, format, args)
}
