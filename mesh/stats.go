package mesh

import (
	"sync"
	"time"
)

// window is how many seconds Stats remembers one by one.
const window = 300

// Bounds are the upper ends of the latency histogram's buckets; a last bucket has no end.
var Bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// A Histogram counts requests by how long they took.
type Histogram [len(Bounds) + 1]uint64

// Quantile estimates the duration below which that share of requests stayed, as the upper end
// of its bucket; zero when there were none.
func (h Histogram) Quantile(share float64) time.Duration {
	var total, seen uint64
	for _, n := range h {
		total += n
	}
	if total == 0 {
		return 0
	}
	for i, n := range h {
		if seen += n; float64(seen) >= share*float64(total) {
			return Bounds[min(i, len(Bounds)-1)]
		}
	}
	return Bounds[len(Bounds)-1]
}

// Stats are what went through a route since the server started.
type Stats struct {
	Requests uint64
	Status   [6]uint64 // by class: Status[2] counts 200 to 299; 0 answers that were broken off
	In, Out  uint64    // bytes of bodies
	InFlight int64
	Latency  Histogram // until the backend's answer began
	Seconds  []Second  // the last five minutes, oldest first, the current second last
}

// A Second is what ended in one second.
type Second struct {
	At       time.Time
	Requests uint32
	Errors   uint32 // status 5xx and broken off
	Out      uint64
	Slowest  time.Duration
	Latency  [len(Bounds) + 1]uint32
}

type stats struct {
	mu   sync.Mutex
	sum  Stats
	ring []Second // made by the first request; the place of a second is its number modulo window
}

func newStats() *stats { return new(stats) }

// A sample is one request that has ended.
type sample struct {
	status   int // 0: the backend broke off its answer
	in, out  int64
	start    time.Time
	answered time.Time // zero: never
}

func (s *stats) begin() {
	s.mu.Lock()
	s.sum.InFlight++
	s.mu.Unlock()
}

func (s *stats) end(e sample) {
	now := time.Now()
	if e.answered.IsZero() {
		e.answered = now
	}
	took := e.answered.Sub(e.start)
	class := min(max(e.status/100, 0), 5)
	b := bucket(took)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.InFlight--
	s.sum.Requests++
	s.sum.Status[class]++
	s.sum.In += uint64(e.in)
	s.sum.Out += uint64(e.out)
	s.sum.Latency[b]++
	second := s.second(now)
	second.Requests++
	if class == 5 || class == 0 {
		second.Errors++
	}
	second.Out += uint64(e.out)
	second.Slowest = max(second.Slowest, took)
	second.Latency[b]++
}

// second finds the place of now and clears what was there five minutes ago.
func (s *stats) second(now time.Time) *Second {
	if s.ring == nil {
		s.ring = make([]Second, window)
	}
	unix := now.Unix()
	second := &s.ring[unix%window]
	if second.At.Unix() != unix {
		*second = Second{At: time.Unix(unix, 0)}
	}
	return second
}

func bucket(d time.Duration) int {
	for i, bound := range Bounds {
		if d <= bound {
			return i
		}
	}
	return len(Bounds)
}

// at copies the state of that moment.
func (s *stats) at(now time.Time) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sum
	out.Seconds = make([]Second, window)
	last := now.Unix()
	for i := range out.Seconds {
		unix := last - window + 1 + int64(i)
		out.Seconds[i].At = time.Unix(unix, 0)
		if s.ring != nil && s.ring[unix%window].At.Unix() == unix {
			out.Seconds[i] = s.ring[unix%window]
		}
	}
	return out
}

// Stats tells what went through a route; the zero Stats for one that does not exist.
func (m *Mesh) Stats(name string) Stats {
	m.mu.Lock()
	r := m.routes[name]
	m.mu.Unlock()
	if r == nil {
		return Stats{}
	}
	return r.stats.at(time.Now())
}
