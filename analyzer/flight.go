package analyzer

import (
	"context"
	"errors"
	"sync"

	godigest "github.com/opencontainers/go-digest"
)

// flights let callers share a scan of the same blob. A flight has a context of
// its own, which ends when the last of its waiters has left; then the next
// caller starts a new one. The zero value is ready.
type flights struct {
	mu sync.Mutex
	m  map[godigest.Digest]*flight
}

type flight struct {
	cancel  context.CancelFunc
	waiters int
	done    chan struct{}
	layer   *Layer
	err     error
}

// errAbandoned ends a flight that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for this scan any more")

// do returns the result of the flight for key, starting one with f if there is none.
func (fs *flights) do(ctx context.Context, key godigest.Digest, f func(context.Context) (*Layer, error)) (*Layer, error) {
	fs.mu.Lock()
	fl, ok := fs.m[key]
	if !ok {
		fl = fs.start(ctx, key, f)
	}
	fl.waiters++
	fs.mu.Unlock()

	select {
	case <-fl.done:
		return fl.layer, fl.err
	case <-ctx.Done():
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fl.waiters--; fl.waiters == 0 {
		fl.cancel()
		fs.forget(key, fl)
	}
	return nil, ctx.Err()
}

// start runs f with the values of ctx but not its end. fs.mu is held.
func (fs *flights) start(ctx context.Context, key godigest.Digest, f func(context.Context) (*Layer, error)) *flight {
	fctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	fl := &flight{cancel: func() { cancel(errAbandoned) }, done: make(chan struct{})}
	if fs.m == nil {
		fs.m = map[godigest.Digest]*flight{}
	}
	fs.m[key] = fl
	go func() { // ends with f, which ends with fctx
		defer fl.cancel()
		l, err := f(fctx)
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fl.layer, fl.err = l, err
		fs.forget(key, fl)
		close(fl.done)
	}()
	return fl
}

// forget makes room for the next flight. fs.mu is held.
func (fs *flights) forget(key godigest.Digest, fl *flight) {
	if fs.m[key] == fl {
		delete(fs.m, key)
	}
}
