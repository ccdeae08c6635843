package turn_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"sampan.dev/sampan/build/internal/turn"
)

func TestOneAfterTheOther(t *testing.T) {
	var turns turn.Turns
	var all sync.WaitGroup
	inside, done := map[string]int{}, 0
	for range 50 {
		all.Go(func() {
			release, err := turns.Take(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if inside["a"]++; inside["a"] != 1 {
				t.Error("two at once")
			}
			done++
			inside["a"]--
		})
	}
	all.Wait()
	if done != 50 {
		t.Errorf("%d of 50", done)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	var turns turn.Turns
	release, err := turns.Take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.Take(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	other, err := turns.Take(t.Context(), "b") // other names are free
	if err != nil {
		t.Fatal(err)
	}
	other()
	release()
	if release, err = turns.Take(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	release()
}
