package loadtest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"sampan.dev/sampan/mesh/loadtest"
)

func TestEveryAnswerIsCounted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch i := n.Add(1); {
		case i == 10:
			w.WriteHeader(503)
		case i == 20:
			panic(http.ErrAbortHandler)
		case i == 30:
			w.Header().Set("Wrong", "yes")
		case i == 100:
			cancel()
		}
	}))
	defer s.Close()
	report := loadtest.Run(ctx, loadtest.Request{URL: s.URL, Host: "app.localhost", Method: "POST", Check: func(r *http.Response, _ []byte) error {
		if r.Header.Get("Wrong") != "" {
			return errors.New("the wrong answer")
		}
		return nil
	}}, 1000)
	sum := 0
	for _, n := range report.Status {
		sum += n
	}
	for _, n := range report.Errors {
		sum += n
	}
	if report.Sent < 100 || sum != report.Sent || report.Failed() != 3 || report.Status[503] != 1 || report.Errors["the wrong answer"] != 1 {
		t.Errorf("counted %d: %s", sum, report)
	}
	if !strings.Contains(report.String(), "3 failed") {
		t.Error(report)
	}
}
