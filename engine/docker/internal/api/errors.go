package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"sampan.dev/sampan/internal/fault"
)

// statusError answers with a status that no kind of fault has.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// ErrStatus is an error that is answered with that status.
func ErrStatus(status int, format string, args ...any) error {
	return &statusError{status, fmt.Sprintf(format, args...)}
}

// NotModified is the answer to a call for what is so already.
func NotModified() error { return ErrStatus(http.StatusNotModified, "not modified") }

// NotImplemented is the answer to a call for what this engine does not have.
func NotImplemented(format string, args ...any) error {
	return ErrStatus(http.StatusNotImplemented, format, args...)
}

// Status is that of an error's answer.
func Status(err error) int {
	var s *statusError
	if errors.As(err, &s) {
		return s.status
	}
	if f, ok := fault.Of(err); ok {
		return faultStatus(f)
	}
	switch {
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsInvalidArgument(err):
		return http.StatusBadRequest
	case errdefs.IsConflict(err):
		return http.StatusConflict
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// faultStatus is the kind's, where Docker's clients know it.
func faultStatus(f *fault.Fault) int {
	switch f.Kind {
	case fault.KindTooLarge:
		return http.StatusBadRequest
	case fault.KindFull:
		return http.StatusInternalServerError
	}
	return f.HTTPStatus()
}
