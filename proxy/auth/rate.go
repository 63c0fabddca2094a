package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimited bounds how many identities are counted at once; past it all
// counts begin anew.
const maxLimited = 1 << 16

// limiter counts requests by key.
type limiter struct {
	limit rate.Limit
	burst int

	mu sync.Mutex
	m  map[string]*rate.Limiter
}

func newLimiter(requests int, per time.Duration) *limiter {
	l := &limiter{burst: requests, m: map[string]*rate.Limiter{}}
	if requests > 0 && per > 0 {
		l.limit = rate.Limit(float64(requests) / per.Seconds())
	}
	return l
}

// take counts a request and returns how long to wait if it is one too many.
func (l *limiter) take(key string) time.Duration {
	if l.limit == 0 {
		return 0
	}
	l.mu.Lock()
	b := l.m[key]
	if b == nil {
		if len(l.m) >= maxLimited {
			clear(l.m)
		}
		b = rate.NewLimiter(l.limit, l.burst)
		l.m[key] = b
	}
	l.mu.Unlock()
	r := b.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}
