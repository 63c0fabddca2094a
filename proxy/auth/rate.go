package auth

import (
	"net/http"
	"net/netip"
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

// How many passwords the clients of one network may have compared that are not
// known to be right: bcrypt is slow by design, and its time is the server's.
const (
	guessBurst = 30              // at once
	guessEvery = time.Second * 2 // then one in this time
)

// guesses counts them by network.
type guesses struct {
	mu sync.Mutex
	m  map[string]guessed
}

// guessed is how many guesses were spent at a time; they come back as it passes.
type guessed struct {
	spent float64
	at    time.Time
}

// take counts a guess and returns how long to wait if it is one too many.
func (g *guesses) take(network string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m == nil || len(g.m) >= maxLimited {
		g.m = map[string]guessed{}
	}
	n := g.m[network]
	n.spent = max(0, n.spent-now.Sub(n.at).Seconds()/guessEvery.Seconds())
	n.at = now
	over := n.spent + 1 - guessBurst
	if over <= 0 {
		n.spent++
	}
	g.m[network] = n
	return time.Duration(max(0, over) * float64(guessEvery))
}

// refund gives back what take counted.
func (g *guesses) refund(network string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, ok := g.m[network]; ok {
		n.spent = max(0, n.spent-1)
		g.m[network] = n
	}
}

// network is whose requests without a name count together: an IPv4 address, or
// a network of IPv6 that has one owner (RFC 6177: /64 at least).
func network(r *http.Request) string {
	ip, err := netip.ParseAddr(address(r))
	if err != nil || ip.Is4() {
		return address(r)
	}
	return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
}
