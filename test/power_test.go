//go:build linux

package test_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The power of a machine is cut at random moments, SAMPAN_POWER times: its memory is gone, and
// what it did not sync. Whatever was acknowledged must be there in the end.
func TestPowerCut(t *testing.T) {
	cuts, err := strconv.Atoi(os.Getenv("SAMPAN_POWER"))
	if err != nil {
		t.Skip("SAMPAN_POWER is not set; make test-power sets it")
	}
	// The machine sees this one's files: the program must lie where they do, not in a mount.
	dir, err := filepath.Abs("../.cache/vm/power")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk")
	for _, make := range [][]string{
		{"cp", program, filepath.Join(dir, "sampan")},
		{"truncate", "-s", "2G", disk},
		{"mkfs.ext4", "-q", disk},
	} {
		if out, err := exec.Command(make[0], make[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", make, err, out)
		}
	}
	a := account{}
	for n := range cuts + 1 {
		enough := 2 + rand.IntN(8)
		if n == cuts {
			enough = 1 // to see that all is well
		}
		a.run(t, dir, enough)
	}
	t.Logf("after %d cuts of power %d pushes and %d changes of configuration are there", cuts, a["push"], a["config"])
}

// An account is the highest number that was acknowledged, by what it counts.
type account map[string]int

// run starts the machine and cuts its power a moment after so many acknowledgements.
func (a account) run(t *testing.T, dir string, enough int) {
	t.Helper()
	cmd := exec.Command("../scripts/vm", "bash", "test/testdata/power.sh")
	cmd.Env = append(os.Environ(), "DISK="+filepath.Join(dir, "disk"), "SAMPAN="+filepath.Join(dir, "sampan"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cut := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	patience := time.AfterFunc(5*time.Minute, cut)
	seen := 0
	var all strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		words := strings.Fields(lines.Text())
		if len(words) != 3 {
			continue
		}
		n, err := strconv.Atoi(words[2])
		switch {
		case err != nil:
		case words[0] == "has":
			if n < a[words[1]] {
				t.Errorf("%s %d was acknowledged, and after the power came back there is %d", words[1], a[words[1]], n)
			}
		case words[0] == "acknowledged":
			a[words[1]] = n
			if seen++; seen == enough {
				time.AfterFunc(time.Duration(rand.Int64N(int64(3*time.Second))), cut)
			}
		}
	}
	_ = cmd.Wait() // killed
	patience.Stop()
	if seen < enough {
		t.Fatalf("the machine ended by itself:\n%s", tail(all.String(), 40))
	}
}
