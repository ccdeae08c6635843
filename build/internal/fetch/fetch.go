// Package fetch gets files from registries for the server itself, through the machine's proxies.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"golang.org/x/net/http/httpproxy"

	"sampan.dev/sampan/build/internal/machine"
)

// A Client fetches. It is safe for concurrent use.
type Client struct{ http *http.Client }

// By makes a Client with the machine's settings.
func By(m *machine.Settings) *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	find := (&httpproxy.Config{
		HTTPProxy:  first(m.Get("HTTP_PROXY"), m.Get("http_proxy")),
		HTTPSProxy: first(m.Get("HTTPS_PROXY"), m.Get("https_proxy")),
		NoProxy:    first(m.Get("NO_PROXY"), m.Get("no_proxy")),
	}).ProxyFunc()
	t.Proxy = func(r *http.Request) (*url.URL, error) { return find(r.URL) }
	return &Client{&http.Client{Transport: t}}
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// A StatusError is an answer other than 200.
type StatusError struct {
	URL  string
	Code int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

func (c *Client) get(ctx context.Context, from string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, &StatusError{from, res.StatusCode}
	}
	return res.Body, nil
}

// Bytes fetches at most most bytes.
func (c *Client) Bytes(ctx context.Context, from string, most int64) ([]byte, error) {
	body, err := c.get(ctx, from)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	all, err := io.ReadAll(io.LimitReader(body, most+1))
	if err == nil && int64(len(all)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", from, err)
	}
	return all, nil
}

// File fetches into a new file, of at most most bytes.
func (c *Client) File(ctx context.Context, from, to string, most int64) error {
	body, err := c.get(ctx, from)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	n, err := io.Copy(f, io.LimitReader(body, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fetch %s: %w", from, err)
	}
	return nil
}
