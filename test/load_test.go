package test_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A load is what came back from a steady stream of requests.
type load struct {
	mu       sync.Mutex
	statuses map[int]int // by status; 0 is no answer
	slowest  time.Duration
	wrong    []string // the first few that were not 2xx
}

// stream sends rate requests a second to an app until done is closed.
func stream(m *machine, app string, rate int, done <-chan struct{}) *load {
	l := &load{statuses: map[int]int{}}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	var flying sync.WaitGroup
	defer flying.Wait()
	for {
		select {
		case <-done:
			return l
		case <-ticker.C:
			flying.Go(func() { l.one(client, m, app) })
		}
	}
}

func (l *load) one(client *http.Client, m *machine, app string) {
	begin := time.Now()
	status, why := 0, ""
	req, err := http.NewRequest("GET", "http://"+m.http+"/", nil)
	if err == nil {
		req.Host = app + ".localhost"
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			status = resp.StatusCode
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	if err != nil {
		status, why = 0, err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[status]++
	l.slowest = max(l.slowest, time.Since(begin))
	if status/100 != 2 && len(l.wrong) < 5 {
		l.wrong = append(l.wrong, fmt.Sprint(status, " ", why))
	}
}

// deploys is how many releases TestDeploysDropNoRequest makes; SAMPAN_DEPLOYS asks for more.
func deploys(t *testing.T) int {
	if text := os.Getenv("SAMPAN_DEPLOYS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SAMPAN_DEPLOYS: %v", err)
		}
		return n
	}
	return 4
}

// Releases follow one another under 200 requests a second, and nobody notices.
func TestDeploysDropNoRequest(t *testing.T) {
	m := begin(t)
	deployTicker(t, m, "busy")
	done := make(chan struct{})
	result := make(chan *load)
	go func() { result <- stream(m, "busy", 200, done) }()
	seen := map[string]bool{}
	for n := range deploys(t) {
		if _, err := m.sampan("ann", "config", "set", fmt.Sprint("TEXT=", n), "-a", "busy"); err != nil {
			t.Error(err)
		}
		seen[answer(t, m, "busy")] = true
	}
	close(done)
	l := <-result
	if len(seen) != deploys(t) {
		t.Errorf("%d releases, %d different answers", deploys(t), len(seen))
	}
	for status, n := range l.statuses {
		if status/100 != 2 {
			t.Errorf("%d answers were %d: %v", n, status, l.wrong)
		}
	}
	t.Logf("%d requests through %d deploys, slowest %v", l.statuses[200], deploys(t), l.slowest)
}
