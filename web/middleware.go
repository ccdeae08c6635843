package web

import (
	"log/slog"
	"net/http"
	"time"
)

// accessLog writes one line a request when the log takes debug lines.
func (a *App) accessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.core.Log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		start, st := time.Now(), stateOf(r)
		defer func() {
			a.core.Log.LogAttrs(r.Context(), slog.LevelDebug, "request",
				slog.String("id", st.id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", st.out.status), slog.Int64("bytes", st.out.size),
				slog.Duration("took", time.Since(start)), slog.String("from", r.RemoteAddr))
		}()
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what another site makes a browser send here. Clients that are no
// browsers send neither Origin nor Sec-Fetch-Site and pass.
func (a *App) sameOrigin(next http.Handler) http.Handler {
	p := http.NewCrossOriginProtection()
	for _, origin := range a.core.Origins {
		if err := p.AddTrustedOrigin(origin); err != nil {
			panic("web: " + err.Error())
		}
	}
	p.SetDenyHandler(route{a, func(http.ResponseWriter, *http.Request) error {
		return Error(http.StatusForbidden, "this request came from another site; open the page here and try again")
	}})
	return p.Handler(next)
}
