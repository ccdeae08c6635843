package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sampan.dev/sampan/internal/fault"
)

// maxBody is the most that a request in JSON may have.
const maxBody = 8 << 20

// Decode reads the request's body, which must be there.
func Decode(r *http.Request, v any) error {
	there, err := DecodeOptional(r, v)
	if err == nil && !there {
		return fault.Invalid("invalid JSON: got EOF while reading request body")
	}
	return err
}

// DecodeOptional reads the request's body and reports whether it was there.
func DecodeOptional(r *http.Request, v any) (bool, error) {
	body, err := Body(r)
	if err != nil || len(body) == 0 {
		return false, err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return false, fault.Invalid("invalid JSON: %w", err)
	}
	return true, nil
}

// Body is the request's body in JSON, empty when there is none.
func Body(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fault.Invalid("the request's body broke off: %w", err)
	}
	if len(body) > maxBody {
		return nil, fault.TooLarge("the request's body is larger than %d bytes", maxBody)
	}
	if len(body) == 0 {
		return nil, nil
	}
	return body, checkJSON(r.Header.Get("Content-Type"))
}

func checkJSON(contentType string) error {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fault.Invalid("malformed Content-Type header (%s): %w", contentType, err)
	}
	if kind != "application/json" {
		return fault.Invalid("unsupported Content-Type header (%s): must be 'application/json'", contentType)
	}
	return nil
}

// Query are the request's parameters.
func Query(r *http.Request) url.Values { return r.URL.Query() }

// Bool is a parameter that may be missing.
func Bool(r *http.Request, key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.URL.Query().Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// BoolOr is a parameter with a value of its own when it is missing.
func BoolOr(r *http.Request, key string, missing bool) bool {
	if !r.URL.Query().Has(key) {
		return missing
	}
	return Bool(r, key)
}

// Int is a number, missing when the parameter is.
func Int(r *http.Request, key string, missing int) (int, error) {
	s := r.URL.Query().Get(key)
	if s == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fault.Invalid("invalid value for %q: %w", key, errors.Unwrap(err))
	}
	return n, nil
}
