//go:build unix && !linux

package git

import (
	"os"
	"syscall"
)

// attributes puts git and its helpers into a group of their own, so that they end together.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }
