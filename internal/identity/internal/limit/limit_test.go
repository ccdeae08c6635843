package limit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sampan.dev/sampan/internal/identity/internal/limit"
)

func TestChancesComeBackEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(3, 30*time.Second)
		for i := range 3 {
			if wait := l.Take("ann"); wait != 0 {
				t.Fatalf("chance %d: wait %v", i, wait)
			}
		}
		if wait := l.Take("ann"); wait != 10*time.Second {
			t.Errorf("the fourth waits %v", wait)
		}
		if wait := l.Take("bob"); wait != 0 {
			t.Errorf("another key waits %v", wait)
		}
		time.Sleep(10 * time.Second)
		if wait := l.Take("ann"); wait != 0 {
			t.Errorf("after ten seconds: wait %v", wait)
		}
		l.Refund("ann")
		if wait := l.Take("ann"); wait != 0 {
			t.Errorf("after a refund: wait %v", wait)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	l := limit.New(1, time.Hour)
	for i := range 100_000 {
		l.Take(fmt.Sprint(i))
	}
	if n := l.Len(); n > 20_001 {
		t.Errorf("%d keys are kept", n)
	}
}
