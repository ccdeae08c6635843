package db_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"sampan.dev/sampan/internal/db/dbtest"
)

// More statements than are kept prepared, from many goroutines: one that is evicted while
// it is used must still answer.
func TestManyDifferentStatements(t *testing.T) {
	d := dbtest.SQLite(t)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for n := range 500 {
				var got int
				query := fmt.Sprintf("SELECT %d + ?", (n*7+w)%400)
				if err := d.QueryRow(t.Context(), query, 1).Scan(&got); err != nil || got != (n*7+w)%400+1 {
					t.Errorf("%s: %d, %v", query, got, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkQueryRow(b *testing.B) {
	d := dbtest.SQLite(b)
	for b.Loop() {
		var n int
		if err := d.QueryRow(context.Background(), "SELECT ? + 1", 1).Scan(&n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	d := dbtest.SQLite(b)
	if _, err := d.Exec(b.Context(), "CREATE TABLE t (n BIGINT)"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := d.Exec(context.Background(), "INSERT INTO t (n) VALUES (?)", 1); err != nil {
			b.Fatal(err)
		}
	}
}
