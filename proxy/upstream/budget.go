package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Budget bounds how often an upstream is asked for manifests, as registries
// with a pull quota count them. The zero Budget does not bound.
type Budget struct {
	Requests int           // manifest requests, HEAD and GET, retries too; 0 = no bound
	Per      time.Duration // in a window of this length, which the first request opens
}

// window spends a Budget.
type window struct {
	Budget
	mu   sync.Mutex
	end  time.Time
	used int
}

// take spends one request. If there is none left, wait is the time until the
// next window.
func (w *window) take() (wait time.Duration, ok bool) {
	if w.Requests <= 0 {
		return 0, true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if wait = time.Until(w.end); wait <= 0 {
		w.end, w.used = time.Now().Add(w.Per), 0
	}
	if w.used >= w.Requests {
		return wait, false
	}
	w.used++
	return 0, true
}

// rateLimit reads Docker Hub's ratelimit-limit and ratelimit-remaining
// ("100;w=21600": a hundred requests in a window of that many seconds).
func rateLimit(h http.Header) (limit, remaining int, per time.Duration, ok bool) {
	limit, per, ok1 := quota(h.Get("ratelimit-limit"))
	remaining, w, ok2 := quota(h.Get("ratelimit-remaining"))
	return limit, remaining, max(per, w), ok1 && ok2
}

// maxWindow is the longest window believed, a year.
const maxWindow = 365 * 24 * 60 * 60

// quota reads a number that is not negative with an optional window in seconds.
func quota(s string) (n int, per time.Duration, ok bool) {
	num, params, _ := strings.Cut(s, ";")
	n, err := strconv.Atoi(strings.TrimSpace(num))
	if err != nil || n < 0 {
		return 0, 0, false
	}
	for p := range strings.SplitSeq(params, ";") {
		if w, is := strings.CutPrefix(strings.TrimSpace(p), "w="); is {
			if sec, err := strconv.Atoi(w); err == nil && sec >= 0 && sec <= maxWindow {
				per = time.Duration(sec) * time.Second
			}
		}
	}
	return n, per, true
}
