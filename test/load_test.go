package test_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"sampan.dev/sampan/mesh/loadtest"
)

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
	t.Parallel()
	m := begin(t)
	deployTicker(t, m, "busy")
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan loadtest.Report)
	go func() {
		result <- loadtest.Run(ctx, loadtest.Request{URL: "http://" + m.http + "/", Host: "busy.localhost"}, 200)
	}()
	seen := map[string]bool{}
	for n := range deploys(t) {
		if _, err := m.sampan("ann", "config", "set", fmt.Sprint("TEXT=", n), "-a", "busy"); err != nil {
			t.Error(err)
		}
		seen[answer(t, m, "busy")] = true
	}
	stop()
	report := <-result
	if len(seen) != deploys(t) {
		t.Errorf("%d releases, %d different answers", deploys(t), len(seen))
	}
	if report.Failed() > 0 {
		t.Errorf("requests failed: %v", report)
	}
	t.Logf("through %d deploys: %v", deploys(t), report)
}
