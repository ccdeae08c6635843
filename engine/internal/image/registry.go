package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Auth is who somebody is to a registry: a name and a password, or a token.
type Auth struct {
	Username, Password string
	IdentityToken      string // buys tokens for requests
	RegistryToken      string // is the token of the requests
	ServerAddress      string // empty: of whatever registry is talked to
}

// A remote is a registry, as one call sees it.
type remote struct {
	hosts    docker.RegistryHosts
	resolver remotes.Resolver
	tracker  docker.StatusTracker
}

// newRemote gives up soon where no registry answers, as behind a firewall that drops.
func newRemote(auth *Auth) remote {
	r := remote{hosts: registryHosts(auth), tracker: docker.NewInMemoryTracker()}
	r.resolver = docker.NewResolver(docker.ResolverOptions{
		Hosts: r.hosts, Tracker: r.tracker, Headers: http.Header{"User-Agent": {"sampan"}},
	})
	return r
}

// registryHosts makes one client for each registry: what it learned of how to sign in stays.
func registryHosts(auth *Auth) docker.RegistryHosts {
	var mu sync.Mutex
	known := map[string][]docker.RegistryHost{}
	return func(name string) ([]docker.RegistryHost, error) {
		mu.Lock()
		defer mu.Unlock()
		if hosts, ok := known[name]; ok {
			return hosts, nil
		}
		local, err := docker.MatchLocalhost(name)
		if err != nil {
			return nil, err
		}
		hc := httpClient(local)
		hosts, err := docker.ConfigureDefaultRegistries(docker.WithClient(hc), docker.WithAuthorizer(authorizer(auth, hc)))(name)
		if err == nil {
			known[name] = hosts
		}
		return hosts, err
	}
}

// httpClient trusts the machine itself, as Docker does: there any certificate will do, and
// none.
func httpClient(local bool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	transport.ResponseHeaderTimeout = time.Minute
	if !local {
		return &http.Client{Transport: impatient{transport}}
	}
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return &http.Client{Transport: impatient{docker.NewHTTPFallback(transport)}}
}

// stall is how long a registry may send nothing in the middle of an answer.
const stall = time.Minute

// impatient ends answers that do not go on.
type impatient struct{ http.RoundTripper }

func (t impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil && resp.Body != nil {
		resp.Body = &watched{ReadCloser: resp.Body, host: r.URL.Host}
	}
	return resp, err
}

type watched struct {
	io.ReadCloser
	host string
}

func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(stall, func() { w.ReadCloser.Close() })
	n, err := w.ReadCloser.Read(p)
	if !timer.Stop() && err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s sent nothing for %v: %w", w.host, stall, err)
	}
	return n, err
}

// hub is the registry of names that say none.
const hub = "registry-1.docker.io"

// hostOf is where the requests go for an address as people write it at docker login.
func hostOf(address string) string {
	if _, after, ok := strings.Cut(address, "://"); ok {
		address = after
	}
	host, _, _ := strings.Cut(address, "/")
	switch host {
	case "docker.io", "index.docker.io":
		return hub
	}
	return host
}

func authorizer(auth *Auth, hc *http.Client) docker.Authorizer {
	if auth == nil {
		auth = &Auth{}
	}
	meant := hostOf(auth.ServerAddress)
	if auth.RegistryToken != "" {
		return bearer{meant, auth.RegistryToken}
	}
	return docker.NewDockerAuthorizer(docker.WithAuthClient(hc), docker.WithAuthCreds(func(host string) (string, string, error) {
		switch {
		case meant != "" && meant != host:
			return "", "", nil // they are for another registry
		case auth.IdentityToken != "":
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}))
}

// bearer brings the token along; there is no second try.
type bearer struct{ host, token string }

func (b bearer) Authorize(_ context.Context, r *http.Request) error {
	if b.host == "" || b.host == r.URL.Host {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return fmt.Errorf("the token is not accepted: %w", errdefs.ErrNotImplemented)
}

// get asks for a path below /v2, and once more when it has to sign in first.
func (r remote) get(ctx context.Context, registry, path string) (*http.Response, error) {
	hosts, err := r.hosts(registry)
	if err != nil {
		return nil, err
	}
	host := hosts[0]
	var answers []*http.Response
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, host.Scheme+"://"+host.Host+host.Path+path, nil)
		if err != nil {
			return nil, err
		}
		if err := host.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
		resp, err := host.Client.Do(req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || len(answers) > 0 {
			return resp, err
		}
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		answers = append(answers, resp)
		if err := host.Authorizer.AddResponses(ctx, answers); err != nil {
			return nil, err
		}
	}
}

// tags lists those of a repository.
func (r remote) tags(ctx context.Context, named reference.Named) ([]string, error) {
	ctx = docker.WithScope(ctx, "repository:"+reference.Path(named)+":pull")
	var all []string
	for next := "/" + reference.Path(named) + "/tags/list"; next != ""; {
		resp, err := r.get(ctx, reference.Domain(named), next)
		if err != nil {
			return nil, err
		}
		var page struct{ Tags []string }
		err = answer(resp, &page)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Tags...)
		next = nextPage(resp)
	}
	return all, nil
}

// nextPage is the path after /v2 that a Link header gives.
func nextPage(resp *http.Response) string {
	link := resp.Header.Get("Link")
	_, after, ok := strings.Cut(link, "<")
	target, _, closed := strings.Cut(after, ">")
	if !ok || !closed || !strings.Contains(link, `rel="next"`) {
		return ""
	}
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	path, found := strings.CutPrefix(u.Path, "/v2")
	if !found {
		return ""
	}
	return path + "?" + u.RawQuery
}
