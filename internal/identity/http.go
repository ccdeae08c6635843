package identity

import (
	"net/http"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

const (
	cookie    = "sampan_session"
	hostOnly  = "__Host-"              // only the site itself can set such a cookie (RFC 6265bis §4.1.3.2)
	cookieAge = int(sessionLife / 1e9) // seconds; the server decides what is still good
)

// Authenticate answers who made a request: by a password or token (Basic, RFC 7617), a
// token (Bearer, RFC 6750, or "token" as Gitea and Deis write it), or the session cookie.
// Without any it is a stranger; a header that is wrong is an error, a cookie that has
// ended is not.
func (s *Service) Authenticate(r *http.Request) (Who, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return s.bySession(r)
	}
	scheme, rest, _ := strings.Cut(header, " ")
	switch strings.ToLower(scheme) {
	case "basic":
		return s.byBasic(r)
	case "bearer", "token":
		return s.ByToken(r.Context(), strings.TrimSpace(rest))
	}
	return Who{}, fault.SignIn("this way to sign in is not known").Try("use Basic, Bearer or token in the Authorization header")
}

// byBasic also takes a token, in either place: clients differ.
func (s *Service) byBasic(r *http.Request) (Who, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return Who{}, fault.SignIn("the Authorization header is damaged")
	}
	if _, ok := parseToken(password); ok {
		return s.ByToken(r.Context(), password)
	}
	if _, ok := parseToken(name); ok && (password == "" || password == "x-oauth-basic") {
		return s.ByToken(r.Context(), name)
	}
	return s.Verify(r.Context(), name, password, r.RemoteAddr)
}

func (s *Service) bySession(r *http.Request) (Who, error) {
	session := SessionIn(r)
	if session == "" {
		return Who{}, nil
	}
	who, err := s.Session(r.Context(), session)
	if fault.Is(err, fault.KindSignIn) {
		return Who{}, nil
	}
	return who, err
}

// Middleware finds out who makes each request; Of tells it to the handlers. A request with
// wrong credentials goes to fail and no further.
func (s *Service) Middleware(fail func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := s.Authenticate(r)
			if err != nil {
				fail(w, r, err)
				return
			}
			next.ServeHTTP(w, WithWho(r, who))
		})
	}
}

// SetCookie gives the browser its session. The cookie needs no seal: it is a random number
// that only the database can tell the meaning of. On TLS it has a name that apps, which live
// on subdomains, cannot set: they could sign people in as somebody else.
func SetCookie(w http.ResponseWriter, session string, secure bool) {
	name := cookie
	if secure {
		name = hostOnly + cookie
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: session, Path: "/", MaxAge: cookieAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	})
}

// SessionIn is the session that the browser sent, or "".
func SessionIn(r *http.Request) string {
	names := []string{hostOnly + cookie}
	if r.TLS == nil { // or a proxy in front of us has ended it
		names = append(names, cookie)
	}
	for _, name := range names {
		if c, err := r.Cookie(name); err == nil {
			return c.Value
		}
	}
	return ""
}

// ClearCookie takes the session from the browser. SignOut ends it.
func ClearCookie(w http.ResponseWriter) {
	for _, name := range []string{cookie, hostOnly + cookie} {
		http.SetCookie(w, &http.Cookie{
			Name: name, Path: "/", MaxAge: -1, HttpOnly: true, Secure: name != cookie, SameSite: http.SameSiteLaxMode,
		})
	}
}
