package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// largest is the size of one file that a build on the host may write.
const largest = 8 << 30

// limit lowers what the process pid and its children may use. The limits are each process's:
// the kernel has none for a group of processes without a control group.
func limit(pid int, l Limits) error {
	set := []struct {
		which int
		value uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, largest}}
	if l.Memory > 0 {
		set = append(set, struct {
			which int
			value uint64
		}{unix.RLIMIT_DATA, uint64(l.Memory)})
	}
	for _, s := range set {
		var now unix.Rlimit
		err := unix.Prlimit(pid, s.which, nil, &now)
		if err == nil {
			now.Cur, now.Max = min(now.Cur, s.value), min(now.Max, s.value)
			err = unix.Prlimit(pid, s.which, &now, nil)
		}
		if errors.Is(err, unix.ESRCH) {
			return nil // it has ended
		}
		if err != nil {
			return fmt.Errorf("limit a process: %w", err)
		}
	}
	return nil
}
