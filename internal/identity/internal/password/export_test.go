package password

// Occupy takes all turns, until free is called.
func Occupy(h *Hasher) (free func()) {
	for range cap(h.turn) {
		h.turn <- struct{}{}
	}
	return func() {
		for range cap(h.turn) {
			<-h.turn
		}
	}
}

// Parse shows what the parser lets through.
func Parse(stored string) (memory, passes uint32, err error) {
	h, err := parse(stored)
	return h.memory, h.passes, err
}
