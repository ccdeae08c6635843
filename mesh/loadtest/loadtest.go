// Package loadtest sends a steady stream of requests and counts the answers.
//
// The rate is kept whatever the answers do: a slow answer does not delay the next request, so
// a stall shows in the report instead of hiding in fewer requests. It is for tests of ours;
// for figures use wrk.
package loadtest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Request says what to send. URL is required.
type Request struct {
	URL    string
	Host   string // default: the URL's
	Method string // default: GET
	Body   string
	Client *http.Client // default: one with its own connections, which follows no redirects
	// Check tells what is wrong with an answer whose status is 2xx; nil: nothing.
	Check func(resp *http.Response, body []byte) error
}

// A Report is what came back. A request that got no whole answer is an error, not a status.
type Report struct {
	Sent    int
	Status  map[int]int
	Errors  map[string]int
	Slowest time.Duration
	Took    time.Duration
}

// Failed counts what was not a checked 2xx.
func (r Report) Failed() int {
	failed := 0
	for status, n := range r.Status {
		if status/100 != 2 {
			failed += n
		}
	}
	for _, n := range r.Errors {
		failed += n
	}
	return failed
}

func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v, slowest %v, %d failed", r.Sent, r.Took.Round(time.Millisecond), r.Slowest.Round(time.Microsecond), r.Failed())
	for _, status := range slices.Sorted(maps.Keys(r.Status)) {
		fmt.Fprintf(&b, "\n  %d: %d", status, r.Status[status])
	}
	for _, err := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, "\n  %s: %d", err, r.Errors[err])
	}
	return b.String()
}

// Run sends rate requests a second until ctx ends, waits for the last answers and reports.
func Run(ctx context.Context, req Request, rate int) Report {
	if req.Client == nil {
		transport := &http.Transport{MaxIdleConnsPerHost: rate}
		defer transport.CloseIdleConnections()
		req.Client = &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	}
	c := &counter{report: Report{Status: map[int]int{}, Errors: map[string]int{}}}
	start := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var all sync.WaitGroup
	for ctx.Err() == nil {
		all.Go(func() { c.count(req.send(context.WithoutCancel(ctx))) })
		c.report.Sent++
		// A ticker drops what is late: send as many as the time says.
		for due := int(time.Since(start).Seconds() * float64(rate)); c.report.Sent < due; c.report.Sent++ {
			all.Go(func() { c.count(req.send(context.WithoutCancel(ctx))) })
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	all.Wait()
	c.report.Took = time.Since(start)
	return c.report
}

// send makes one request and reads the whole answer.
func (r Request) send(ctx context.Context) (status int, took time.Duration, err error) {
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, strings.NewReader(r.Body))
	if err != nil {
		return 0, 0, err
	}
	if r.Host != "" {
		req.Host = r.Host
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return 0, time.Since(start), err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && r.Check != nil && resp.StatusCode/100 == 2 {
		err = r.Check(resp, body)
	}
	return resp.StatusCode, time.Since(start), err
}

type counter struct {
	mu     sync.Mutex
	report Report // Sent is Run's own
}

func (c *counter) count(status int, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Slowest = max(c.report.Slowest, took)
	if err != nil {
		c.report.Errors[err.Error()]++
		return
	}
	c.report.Status[status]++
}
