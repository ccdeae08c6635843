package image

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// source is where the files of an import come from: the request, or an address that the
// daemon fetches them from.
func source(r *http.Request, from string) (io.ReadCloser, error) {
	if from == "-" || from == "" {
		return r.Body, nil
	}
	if !strings.Contains(from, "://") {
		from = "http://" + from
	}
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fault.Invalid("%q is not an address to import from", from)
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fault.Invalid("%q is not an address to import from: %w", from, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fault.Unavailable("%s does not answer: %w", u.Host, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, errors.Join(fault.Unavailable("%s answers %s", u.Redacted(), resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}
