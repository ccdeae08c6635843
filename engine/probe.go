package engine

// A Check is one thing that this machine can do, or what to do so that it can.
type Check struct {
	Name   string
	OK     bool
	Detail string
	Remedy string
}
