// Package client speaks to a Sampan server: the Deis controller API v2 for apps, with the
// superset that package apps documents, and the Gitea API v1 for people and repositories.
//
// A Client is safe for concurrent use. Errors of the server come back as faults that carry
// the server's own sentence.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sampan.dev/sampan/internal/fault"
)

// About is what a server says of itself to anyone.
type About struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Domain  string `json:"domain"`
	SSH     string `json:"ssh"` // URL of the SSH door: ssh://git@host:2222
}

// A Client is one person at one server.
type Client struct {
	base  *url.URL
	about About
	token string
	http  *http.Client
}

// Dial asks the server at base what it is.
func Dial(ctx context.Context, base, token string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fault.Invalid("%q is not the address of a server", base).Try("give it as http://host:3000")
	}
	c := &Client{base: &url.URL{Scheme: u.Scheme, Host: u.Host}, token: token, http: &http.Client{Transport: transport()}}
	if err := c.do(ctx, c.base.Host, http.MethodGet, "/-/about", nil, &c.about); err != nil {
		return nil, err
	}
	if c.about.Name != "sampan" {
		return nil, fault.Invalid("%s answers, but is not a Sampan server", base)
	}
	return c, nil
}

// transport resolves names below localhost to loopback (RFC 6761 §6.3), which not every
// resolver does.
func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
			addr = net.JoinHostPort("localhost", port)
		}
		return dialer.DialContext(ctx, network, addr)
	}
	return t
}

func (c *Client) About() About { return c.about }
func (c *Client) Base() string { return c.base.String() }

// HTTP is the client's connection for addresses below the server's domain, an app's say.
func (c *Client) HTTP() *http.Client { return c.http }

// Apps calls the controller API: path starts with /v2/.
func (c *Client) Apps(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, c.appsHost(), method, path, in, out)
}

// Forge calls the forge's API, or a page: path starts with /api/v1/ or /-/.
func (c *Client) Forge(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, c.base.Host, method, path, in, out)
}

// Stream calls the controller API and hands back the body as it comes.
func (c *Client) Stream(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	resp, err := c.send(ctx, c.appsHost(), method, path, in)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) appsHost() string {
	host := "deis." + c.about.Domain
	if port := c.base.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	return host
}

func (c *Client) do(ctx context.Context, host, method, path string, in, out any) error {
	resp, err := c.send(ctx, host, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if text, ok := out.(*string); ok {
		b, err := io.ReadAll(resp.Body)
		*text = string(b)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s %s: the answer is not JSON: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, host, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, body)
	if err != nil {
		return nil, err
	}
	req.Host = host
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "token "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			return nil, fault.Unavailable("%s does not answer (%v)", c.base, op.Err).Try("is the server running? start it with: sampan serve")
		}
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, failure(resp)
	}
	return resp, nil
}

// failure reads the shapes of errors that the two APIs have: a bare string, {"detail"},
// {"message"} and {"field":["text"]}.
func failure(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	say := strings.TrimSpace(string(text))
	var bare string
	var fields map[string]any
	if json.Unmarshal(text, &bare) == nil {
		say = bare
	} else if json.Unmarshal(text, &fields) == nil {
		for _, key := range []string{"detail", "message"} {
			if s, ok := fields[key].(string); ok {
				return fault.FromStatus(resp.StatusCode, "%s", s)
			}
		}
		for key, v := range fields {
			if list, ok := v.([]any); ok && len(list) > 0 {
				return fault.FromStatus(resp.StatusCode, "%s: %v", key, list[0])
			}
		}
	}
	if say == "" || strings.HasPrefix(say, "<") {
		say = "the server answered " + resp.Status
	}
	return fault.FromStatus(resp.StatusCode, "%s", say)
}
