package git

import (
	"os"
	"syscall"
)

// attributes puts git and its helpers into a group of their own, so that they end
// together, and ends git when this program dies: the next one must be alone with the
// repositories.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }
