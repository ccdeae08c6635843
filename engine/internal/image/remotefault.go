package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"sampan.dev/sampan/internal/fault"
)

// answer decodes one, or says what the registry complains of.
func answer(resp *http.Response, v any) error {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return remoteerrors.NewUnexpectedStatusErr(resp)
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(v)
}

// denied reports whether a registry wants to know who asks, or does not like who does.
func denied(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
	}
	return errors.Is(err, docker.ErrInvalidAuthorization) || errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err)
}

// wrongPassword reports whether it was the service that gives tokens which said no.
func wrongPassword(err error) bool {
	return strings.Contains(err.Error(), "failed to fetch oauth token")
}

// pullFault says in Docker's words why an image could not be fetched.
func pullFault(named reference.Named, platform string, err error) error {
	name := reference.FamiliarString(named)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case denied(err) && wrongPassword(err):
		return fault.SignIn("unauthorized: incorrect username or password")
	case denied(err):
		return fault.NotFound("pull access denied for %s, repository does not exist or may require 'docker login'", reference.FamiliarName(named))
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "platform"):
		return fault.NotFound("no matching manifest for %s in the manifest list entries", platform)
	case errdefs.IsNotFound(err):
		return fault.NotFound("manifest for %s not found: manifest unknown", name)
	}
	return remoteFault(reference.Domain(named), "fetch image "+name, err)
}

// remoteFault is what can go wrong with any registry.
func remoteFault(host, doing string, err error) error {
	var network net.Error
	var status remoteerrors.ErrUnexpectedStatus
	var theirs docker.Errors
	switch {
	case errors.As(err, &status):
		return fault.Unavailable("the registry %s answers %s%s", host, status.Status, complaint(status.Body))
	case errors.As(err, &theirs):
		return fault.Unavailable("the registry %s complains: %v", host, theirs)
	case errors.As(err, &network):
		return fault.Unavailable("the registry %s does not answer: %w", host, err).
			Try("import the image from a file instead, or check this machine's way to the internet")
	case errdefs.IsFailedPrecondition(err), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "sent nothing for"):
		return fault.Unavailable("the registry %s sent something else than it said: %w", host, err)
	}
	return full(err, doing)
}

// complaint is what the body of an answer says, in the words of the registry.
func complaint(body []byte) string {
	var reply struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &reply) != nil || len(reply.Errors) == 0 {
		return ""
	}
	return fmt.Sprintf(": %s: %s", strings.ToLower(reply.Errors[0].Code), reply.Errors[0].Message)
}
