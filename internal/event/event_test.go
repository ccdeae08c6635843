package event_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/event"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

type counted struct{ N int }

var happened = event.Type[counted]{Name: "test.Happened"}

// emit commits one event in a transaction of its own.
func emit(t *testing.T, b *event.Bus, d *db.DB, n int) {
	t.Helper()
	err := d.Tx(t.Context(), func(tx *db.Tx) error { return event.Emit(t.Context(), b, tx, happened, counted{n}) })
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, d *db.DB) *event.Bus {
	t.Helper()
	b, err := event.Open(t.Context(), event.Config{DB: d})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// during runs the bus until work has returned.
func during(t *testing.T, b *event.Bus, work func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	work()
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestEventsArriveInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := open(t, d)
		got := make(chan int, 100)
		if err := event.On(b, happened, "collect", func(_ context.Context, c counted) error {
			got <- c.N
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		emit(t, b, d, 0) // before Run
		during(t, b, func() {
			for n := 1; n < 100; n++ {
				emit(t, b, d, n)
			}
			for n := range 100 {
				if g := <-got; g != n {
					t.Fatalf("got event %d, want %d", g, n)
				}
			}
		})
	})
}

func TestARolledBackEventNeverHappened(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := open(t, d)
		got := make(chan int, 10)
		if err := event.On(b, happened, "collect", func(_ context.Context, c counted) error {
			got <- c.N
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		changedMind := errors.New("changed my mind")
		err := d.Tx(t.Context(), func(tx *db.Tx) error {
			if err := event.Emit(t.Context(), b, tx, happened, counted{1}); err != nil {
				return err
			}
			return changedMind
		})
		if !errors.Is(err, changedMind) {
			t.Fatal(err)
		}
		during(t, b, func() {
			emit(t, b, d, 2)
			if g := <-got; g != 2 {
				t.Errorf("got event %d, want only 2", g)
			}
		})
	})
}

func TestAFailingHandlerIsTriedAgainAndHoldsUpNoOther(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := open(t, d)
		other, stubborn := make(chan int, 10), make(chan int, 10)
		failures := 2
		err := errors.Join(
			event.On(b, happened, "stubborn", func(_ context.Context, c counted) error {
				if failures > 0 {
					failures--
					return errors.New("not yet")
				}
				stubborn <- c.N
				return nil
			}),
			event.On(b, happened, "other", func(_ context.Context, c counted) error {
				other <- c.N
				return nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		during(t, b, func() {
			emit(t, b, d, 1)
			emit(t, b, d, 2)
			if got := []int{<-other, <-other, <-stubborn, <-stubborn}; !slices.Equal(got, []int{1, 2, 1, 2}) {
				t.Errorf("got %v", got)
			}
		})
	})
}

func TestWhatWasNotHandledComesAgainAfterARestart(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		first := open(t, d)
		reached := make(chan struct{})
		if err := event.On(first, happened, "slow", func(ctx context.Context, _ counted) error {
			close(reached)
			<-ctx.Done() // the server goes away while the handler works
			return ctx.Err()
		}); err != nil {
			t.Fatal(err)
		}
		emit(t, first, d, 7)
		during(t, first, func() { <-reached })

		second := open(t, d)
		got := make(chan int, 1)
		if err := event.On(second, happened, "slow", func(_ context.Context, c counted) error {
			got <- c.N
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		during(t, second, func() {
			if g := <-got; g != 7 {
				t.Errorf("got event %d, want 7", g)
			}
		})
	})
}
