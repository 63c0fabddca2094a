package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	breakAfter  = 8 // failures in a row
	minOpenTime = 5 * time.Second
	maxOpenTime = time.Minute
)

// breaker stops calls to an upstream that fails again and again, so that its
// clients hear so at once and it can recover. Failures are connections that
// fail or time out, and 5xx; any other answer, 429 too, proves that it lives, and
// so does a redirect to another host, whatever comes from there.
// When a pause is over one call is let through: its success closes the circuit,
// its failure doubles the pause.
type breaker struct {
	limit int // failures in a row that open it; ≤ 0 = never

	mu       sync.Mutex
	failures int
	last     error // of them
	pause    time.Duration
	until    time.Time // zero = closed
	trial    bool      // one call is under way after a pause
}

// openError says that an upstream was not asked.
type openError struct {
	failures int
	wait     time.Duration
	last     error
}

// Error tells how long, and what the last failure was.
func (e *openError) Error() string {
	next := "a trial request is under way"
	if e.wait > 0 {
		next = "next try in " + e.wait.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("not asked after %d failures in a row, %s; the last: %v", e.failures, next, e.last)
}

// enter returns an *openError if no call may be made now. Else the caller calls
// leave when it is done, whatever came of it.
func (b *breaker) enter() (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return func() {}, nil
	}
	if wait := time.Until(b.until); wait > 0 || b.trial {
		return nil, &openError{failures: b.failures, wait: max(wait, 0), last: b.last}
	}
	b.trial = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.trial = false
	}, nil
}

// record takes the outcome of a request. A caller that left early says nothing
// about the upstream's health.
func (b *breaker) record(err error) {
	var (
		status      *StatusError
		content     *ContentError
		unreachable *UnreachableError
		failed      bool
	)
	switch {
	case err == nil, errors.As(err, &content):
	case errors.As(err, &status):
		failed = status.Status >= http.StatusInternalServerError
	case errors.As(err, &unreachable):
		failed = true
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !failed {
		b.failures, b.last, b.pause, b.until = 0, nil, 0, time.Time{}
		return
	}
	b.failures++
	b.last = err
	if b.limit <= 0 || b.failures < b.limit || time.Now().Before(b.until) {
		return // a call from before the circuit opened adds nothing to the pause
	}
	b.pause = min(max(2*b.pause, minOpenTime), maxOpenTime)
	b.until = time.Now().Add(b.pause)
}
