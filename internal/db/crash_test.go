package db_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"sampan.dev/sampan/internal/db"
	"sampan.dev/sampan/internal/db/dbtest"
	"sampan.dev/sampan/internal/fault"
)

const crashURL = "SAMPAN_CRASH_TEST_DB"

// TestWriterThatIsKilled is the child of the next test: it writes and tells what has been
// acknowledged, until it is killed.
func TestWriterThatIsKilled(t *testing.T) {
	url := os.Getenv(crashURL)
	if url == "" {
		t.Skip("a part of another test")
	}
	d := dbtest.Open(t, url)
	for n := 1; ; n++ {
		err := d.Tx(t.Context(), func(tx *db.Tx) error {
			for _, half := range []string{"a", "b"} { // both or none
				if _, err := tx.Exec(t.Context(), "INSERT INTO boat (name, oars) VALUES (?, ?)", fmt.Sprint(half, n), n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("acknowledged", n)
	}
}

func TestWhatIsAcknowledgedSurvivesAKill(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		boats(t, dbtest.Open(t, url))
		acknowledged := 0
		for round := range 3 {
			acknowledged = max(acknowledged, writeAndKill(t, url, 10*(round+1)))
			d := dbtest.Open(t, url)
			var rows, last int
			err := d.QueryRow(t.Context(), "SELECT count(*), MAX(oars) FROM boat").Scan(&rows, &last)
			if err != nil || rows%2 != 0 || last < acknowledged {
				t.Fatalf("%d rows up to %d, %d acknowledged, %v", rows, last, acknowledged, err)
			}
			if _, err := d.Exec(t.Context(), "DELETE FROM boat"); err != nil {
				t.Fatal(err)
			}
			acknowledged = 0
		}
	})
}

// writeAndKill kills the writer after enough acknowledgements, and tells the last one.
func writeAndKill(t *testing.T, url string, enough int) (last int) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestWriterThatIsKilled$")
	cmd.Env = append(os.Environ(), crashURL+"="+url)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "acknowledged %d", &n); err == nil {
			last = n
		}
		if last >= enough {
			kill()
		}
	}
	cmd.Wait() // it was killed
	if last < enough {
		t.Fatalf("the writer ended by itself after %d", last)
	}
	return last
}

func TestAFullDiskOfBytes(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	d := dbtest.Open(t, filepath.Join(dir, "sampan.db"))
	boats(t, d)
	acknowledged := 0
	var err error
	for err == nil && acknowledged < 1000 {
		_, err = d.Exec(t.Context(), "INSERT INTO boat (name, plan) VALUES (?, ?)", strconv.Itoa(acknowledged), make([]byte, 8192))
		if err == nil {
			acknowledged++
		}
	}
	if !fault.Is(err, fault.KindFull) {
		t.Fatalf("after %d rows: %v", acknowledged, err)
	}
	if n := count(t, d); n != acknowledged {
		t.Errorf("%d rows, %d were acknowledged", n, acknowledged)
	}
}
