package event_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
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

func TestAPanicIsAFailure(t *testing.T) {
	d := dbtest.SQLite(t)
	b := open(t, d)
	got, first := make(chan int, 1), true
	must(t, event.On(b, happened, "clumsy", func(_ context.Context, c counted) error {
		if first {
			first = false
			panic("oops")
		}
		got <- c.N
		return nil
	}))
	during(t, b, func() {
		emit(t, b, d, 1)
		if g := <-got; g != 1 {
			t.Errorf("got event %d", g)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHandlersAreNamedOnceAndBeforeRun(t *testing.T) {
	b := open(t, dbtest.SQLite(t))
	ignore := func(context.Context, counted) error { return nil }
	must(t, event.On(b, happened, "ignore", ignore))
	if err := event.On(b, happened, "ignore", ignore); err == nil {
		t.Error("two handlers have one name")
	}
	during(t, b, func() {})
	if err := event.On(b, happened, "late", ignore); err == nil {
		t.Error("a handler came after Run")
	}
}

// Two servers share a database: each event is handled by one of them, and in order.
func TestTwoServersDoNotHandleAtOnce(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		if !strings.HasPrefix(url, "postgres:") {
			t.Skip("SQLite serves one server")
		}
		const total = 40
		var mu sync.Mutex
		var got []int
		done := make(chan struct{})
		handler := func(_ context.Context, c counted) error {
			if !mu.TryLock() {
				t.Error("two handlers work at once")
				mu.Lock()
			}
			defer mu.Unlock()
			if got = append(got, c.N); len(got) == total {
				close(done)
			}
			return nil
		}
		var databases [2]*db.DB
		var buses [2]*event.Bus
		for i := range 2 {
			databases[i] = dbtest.Open(t, url)
			buses[i] = open(t, databases[i])
			must(t, event.On(buses[i], happened, "count", handler))
		}
		during(t, buses[0], func() {
			during(t, buses[1], func() {
				for n := range total {
					emit(t, buses[n%2], databases[n%2], n)
				}
				<-done
			})
		})
		for n, g := range got {
			if n != g {
				t.Fatalf("in the order %v", got)
			}
		}
	})
}

// Many transactions emit at once; a cursor must not overtake one that commits late.
func TestNoEventIsOvertaken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := open(t, d)
		const workers, each = 4, 25
		got := make(chan int, workers*each)
		must(t, event.On(b, happened, "collect", func(_ context.Context, c counted) error {
			got <- c.N
			return nil
		}))
		during(t, b, func() {
			var all sync.WaitGroup
			for w := range workers {
				all.Go(func() {
					for n := range each {
						emit(t, b, d, w*each+n)
					}
				})
			}
			all.Wait()
			seen := map[int]bool{}
			for range workers * each {
				seen[<-got] = true
			}
			if len(seen) != workers*each {
				t.Errorf("%d events arrived, some of them twice", len(seen))
			}
		})
	})
}

func TestOldEventsAreDeletedWhenAllHaveSeenThem(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		b := open(t, d)
		got := make(chan int, 10)
		collect := func(_ context.Context, c counted) error {
			got <- c.N
			return nil
		}
		must(t, event.On(b, happened, "collect", collect))
		during(t, b, func() {
			emit(t, b, d, 1)
			<-got
		})
		emit(t, b, d, 2) // nobody has seen it
		_, err := d.Exec(t.Context(), `UPDATE event_outbox SET at = 1`)
		must(t, err)
		next := open(t, d)
		must(t, next.Prune(t.Context()))
		var left string
		must(t, d.QueryRow(t.Context(), `SELECT body FROM event_outbox`).Scan(&left))
		if left != `{"N":2}` {
			t.Errorf("left is %s", left)
		}
		must(t, event.On(next, happened, "collect", collect))
		during(t, next, func() {
			if g := <-got; g != 2 {
				t.Errorf("got event %d", g)
			}
		})
	})
}

func BenchmarkEmitToHandled(b *testing.B) {
	d := dbtest.SQLite(b)
	bus, err := event.Open(b.Context(), event.Config{DB: d})
	if err != nil {
		b.Fatal(err)
	}
	handled := make(chan struct{})
	err = event.On(bus, happened, "answer", func(context.Context, counted) error {
		handled <- struct{}{}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- bus.Run(ctx) }()
	for b.Loop() {
		if err := d.Tx(ctx, func(tx *db.Tx) error { return event.Emit(ctx, bus, tx, happened, counted{1}) }); err != nil {
			b.Fatal(err)
		}
		<-handled
	}
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
