package engine

// SupervisorPid is the process that a test kills.
func (e *Engine) SupervisorPid() int {
	e.starting.Lock()
	defer e.starting.Unlock()
	return e.client.Pid()
}
