// Package probe finds out when a program that was just started is ready for requests.
//
// Nothing is waited for that can be asked: the first question comes at once, the next after
// 5 ms, and the pause grows to 100 ms. Without a path, ready is an accepted TCP connection;
// with one, an HTTP answer below 400.
package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// A Probe says what to ask for.
type Probe struct {
	Path    string            // HTTP; empty: TCP
	Header  map[string]string // of the HTTP request
	Timeout time.Duration     // of one question; zero: one second
}

// Wait returns nil when addr is ready, or when ctx ends the last answer that was not.
func Wait(ctx context.Context, addr string, p Probe) error {
	if p.Timeout <= 0 {
		p.Timeout = time.Second
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	pause := firstPause
	for {
		err := p.ask(ctx, client, addr)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(pause*3/2, lastPause)
	}
}

func (p Probe) ask(ctx context.Context, client *http.Client, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if p.Path == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+p.Path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", p.Path, err)
	}
	for name, value := range p.Header {
		if http.CanonicalHeaderKey(name) == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s answered %s", p.Path, resp.Status)
	}
	return nil
}
