// Package deis serves the Deis Workflow controller API v2, level 2.3, so that its clients
// work unmodified.
//
// Paths come with and without a trailing slash. Lists have count, next, previous and
// results, which is never null. A missing thing is a bare JSON string, a wrong field
// {"field":["why"]}, any other error {"detail":"why"}. Every answer carries the versions of
// the API and of the platform. Authorization is "token" and a token of the user's account.
//
// What the API does not have and Sampan adds:
//
//	GET  /v2/apps/{id}/logs?follow=1&process=web&log_lines=100   lines as they come
//	POST /v2/apps/{id}/source {"repository":"ann/site","branch":"main"}   deploy pushes there; "" ends it
//	POST /v2/apps/{id}/deploy   build the newest commit again; the output as it comes
//	GET  /v2/apps/{id}/builds/{uuid}/output   what a build printed and prints
//	GET  /v2/apps/{id}/metrics   samples of the last fifteen minutes
//	App:     url, git_url, source, branch, isolated
//	Release: state, reason       Build: state, reason, builder, detected
//	Pod:     reason, exit_code, number; ?all=1 lists crashed ones and those of the next release
//	register: setup, the first-run code, while there is nobody yet
package deis

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"sampan.dev/sampan/apps/internal/platform"
	"sampan.dev/sampan/internal/fault"
	"sampan.dev/sampan/internal/identity"
)

const (
	apiVersion = "2.3" // compared as a string by clients
	timeLayout = "2006-01-02T15:04:05Z"
	maxBody    = 1 << 20
)

// An API serves one installation.
type API struct {
	platform *platform.Platform
	identity *identity.Service
	version  string
	log      *slog.Logger
	mux      *http.ServeMux
}

// New makes the API. version is of the platform.
func New(p *platform.Platform, i *identity.Service, version string, log *slog.Logger) *API {
	a := &API{platform: p, identity: i, version: version, log: log, mux: http.NewServeMux()}
	a.routes()
	return a
}

// A handler answers someone who has signed in.
type handler func(w http.ResponseWriter, r *http.Request, who identity.Who) error

func (a *API) routes() {
	open := map[string]handler{
		"POST /v2/auth/register": a.register,
		"POST /v2/auth/login":    a.login,
	}
	signedIn := map[string]handler{
		"GET /v2":                                        a.root,
		"GET /v2/auth/whoami":                            a.whoami,
		"POST /v2/auth/passwd":                           a.passwd,
		"POST /v2/auth/tokens":                           a.newToken,
		"DELETE /v2/auth/cancel":                         a.cancel,
		"GET /v2/users":                                  a.users,
		"GET /v2/keys":                                   a.keys,
		"POST /v2/keys":                                  a.addKey,
		"GET /v2/keys/{id...}":                           a.key,
		"DELETE /v2/keys/{id...}":                        a.removeKey,
		"GET /v2/apps":                                   a.apps,
		"POST /v2/apps":                                  a.createApp,
		"GET /v2/apps/{app}":                             a.app,
		"POST /v2/apps/{app}":                            a.transfer,
		"DELETE /v2/apps/{app}":                          a.destroy,
		"GET /v2/apps/{app}/logs":                        a.logs,
		"POST /v2/apps/{app}/run":                        a.run,
		"POST /v2/apps/{app}/scale":                      a.scale,
		"GET /v2/apps/{app}/pods":                        a.pods,
		"GET /v2/apps/{app}/pods/{type}":                 a.pods,
		"GET /v2/apps/{app}/pods/{type}/{name}":          a.pods,
		"POST /v2/apps/{app}/pods/restart":               a.restart,
		"POST /v2/apps/{app}/pods/{type}/restart":        a.restart,
		"POST /v2/apps/{app}/pods/{type}/{name}/restart": a.restart,
		"GET /v2/apps/{app}/config":                      a.config,
		"POST /v2/apps/{app}/config":                     a.setConfig,
		"GET /v2/apps/{app}/builds":                      a.builds,
		"POST /v2/apps/{app}/builds":                     a.pushImage,
		"GET /v2/apps/{app}/builds/{uuid}":               a.build,
		"GET /v2/apps/{app}/builds/{uuid}/output":        a.output,
		"GET /v2/apps/{app}/releases":                    a.releases,
		"GET /v2/apps/{app}/releases/{version}":          a.release,
		"POST /v2/apps/{app}/releases/rollback":          a.rollback,
		"GET /v2/apps/{app}/domains":                     a.domains,
		"POST /v2/apps/{app}/domains":                    a.addDomain,
		"DELETE /v2/apps/{app}/domains/{domain}":         a.removeDomain,
		"GET /v2/apps/{app}/perms":                       a.perms,
		"POST /v2/apps/{app}/perms":                      a.share,
		"DELETE /v2/apps/{app}/perms/{user}":             a.unshare,
		"POST /v2/apps/{app}/source":                     a.source,
		"PATCH /v2/apps/{app}/source":                    a.source,
		"POST /v2/apps/{app}/deploy":                     a.deploy,
		"GET /v2/apps/{app}/metrics":                     a.metrics,
	}
	for pattern, h := range open {
		a.mux.Handle(pattern, a.serve(h, true))
	}
	for pattern, h := range signedIn {
		a.mux.Handle(pattern, a.serve(h, false))
	}
	ok := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "OK") }
	a.mux.HandleFunc("GET /healthz", ok)
	a.mux.HandleFunc("GET /readiness", ok)
	a.mux.Handle("/", a.serve(func(http.ResponseWriter, *http.Request, identity.Who) error { return notFound("Page") }, true))
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("DEIS_API_VERSION", apiVersion)
	w.Header().Set("DEIS_PLATFORM_VERSION", a.version)
	if path, slash := strings.CutSuffix(r.URL.Path, "/"); slash && path != "" {
		// Never by a redirect: a client would repeat the request without its body.
		u := *r.URL
		u.Path, u.RawPath = path, strings.TrimSuffix(r.URL.RawPath, "/")
		r = r.WithContext(r.Context())
		r.URL = &u
	}
	a.mux.ServeHTTP(w, r)
}

func (a *API) serve(h handler, open bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		who, err := a.who(r)
		switch {
		case err != nil && !(open && fault.Is(err, fault.KindSignIn)):
			a.fail(w, r, err)
			return
		case who.Stranger() && !open:
			a.fail(w, r, fault.SignIn("Authentication credentials were not provided."))
			return
		}
		if err := h(w, r, who); err != nil {
			a.fail(w, r, err)
		}
	})
}

// who takes nothing but the Authorization header: a cookie would let other sites act.
func (a *API) who(r *http.Request) (identity.Who, error) {
	if r.Header.Get("Authorization") == "" {
		return identity.Who{}, nil
	}
	return a.identity.Authenticate(r)
}

func notFound(what string) error { return fault.NotFound("No %s matches the given query.", what) }

// fail answers with an error in the shape that clients read.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var status interface{ HTTPStatus() int }
	var tooLarge *http.MaxBytesError
	f, isFault := fault.Of(err)
	switch {
	case errors.As(err, &tooLarge):
		answer(w, http.StatusRequestEntityTooLarge, map[string]string{"detail": "the request is too large"})
	case isFault && f.Kind == fault.KindNotFound:
		answer(w, http.StatusNotFound, f.Message)
	case isFault && f.Field != "" && f.HTTPStatus() < http.StatusInternalServerError:
		answer(w, http.StatusBadRequest, map[string][]string{f.Field: {f.Message}})
	case isFault:
		answer(w, f.HTTPStatus(), map[string]string{"detail": f.Error()})
	case errors.As(err, &status):
		answer(w, status.HTTPStatus(), map[string]string{"detail": err.Error()})
	case r.Context().Err() != nil:
		// Nobody is there to read an answer.
	default:
		a.log.Error("controller API failed", "method", r.Method, "path", r.URL.Path, "err", err)
		answer(w, http.StatusInternalServerError, map[string]string{"detail": "Internal Server Error"})
	}
}

// answer sends v as JSON; nil is no body.
func answer(w http.ResponseWriter, status int, v any) error {
	if v == nil {
		w.WriteHeader(status)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

// read takes a JSON object; no body is an empty one.
func read(r *http.Request, v any) error {
	err := json.NewDecoder(r.Body).Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return err
	case err != nil:
		return fault.Invalid("JSON parse error - %v", err)
	}
	return nil
}
