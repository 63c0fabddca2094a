package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	minProgress = 1 << 10     // bytes that must come in each Options.Stall of waiting
	stall       = time.Minute // unless Options says other
)

// body is a response's body that fails when the upstream sends too little for
// too long. Only the time spent in Read counts: a reader that takes its time is
// not the upstream's fault.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc // of the request
	stall  time.Duration
	err    error // what a stall is reported as

	timer *time.Timer
	left  time.Duration // of waiting, before which minProgress must be reached
	got   int           // bytes towards it
	dead  bool
}

func (u *Upstream) newBody(rc io.ReadCloser, op string, cancel context.CancelFunc) *body {
	return &body{
		ReadCloser: rc, cancel: cancel, stall: u.stall, left: u.stall,
		err: &UnreachableError{Upstream: u.name, Op: op, Err: fmt.Errorf("stalled: less than %d bytes came within %s", minProgress, u.stall)},
	}
}

// Read returns an *UnreachableError after a stall.
func (b *body) Read(p []byte) (int, error) {
	if b.dead {
		return 0, b.err
	}
	start := time.Now()
	if b.timer == nil {
		b.timer = time.AfterFunc(b.left, b.cancel)
	} else {
		b.timer.Reset(b.left)
	}
	n, err := b.ReadCloser.Read(p)
	if !b.timer.Stop() && !errors.Is(err, io.EOF) {
		b.dead = true
		return n, b.err
	}
	b.left = max(b.left-time.Since(start), 1)
	if b.got += n; b.got >= minProgress {
		b.left, b.got = b.stall, 0
	}
	return n, err
}

// Close ends the request.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
