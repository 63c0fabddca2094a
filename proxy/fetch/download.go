package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

const (
	chunk      = 256 << 10
	retryPause = 100 * time.Millisecond // on average, doubled with each try
)

type state uint8

const (
	running  state = iota // bytes come in
	complete              // all bytes are there and verified; the commit goes on or is over
	failed                // or given up, since nobody was left
)

// download is one upstream GET. The goroutine in run writes; readers look at
// the fields under mu and wait on wake.
type download struct {
	digest  godigest.Digest
	grace   time.Duration
	retries int
	sink    Sink                    // like the two below, set before begun is closed
	cancel  context.CancelCauseFunc // ends it
	failure error                   // why it could not begin
	begun   chan struct{}           // closed when bytes come in, or on failure
	done    chan struct{}           // closed when it has left the manager's map
	known   chan struct{}           // closed when size is known, or on failure

	mu      sync.Mutex
	wake    chan struct{} // closed and replaced whenever something below changes
	state   state
	err     error
	size    int64 // -1 until known
	written int64 // bytes in the sink; changed by the writing goroutine only
	readers int
	idle    *time.Timer
}

func newDownload(d godigest.Digest, size int64, opts Options) *download {
	dl := &download{
		digest: d, size: size, grace: opts.Grace, retries: opts.Retries,
		wake: make(chan struct{}), begun: make(chan struct{}), done: make(chan struct{}), known: make(chan struct{}),
	}
	if size >= 0 {
		close(dl.known)
	}
	return dl
}

// join waits until the download has begun and adds a reader. It returns a
// channel that closes when the caller should look for another download, if this
// one takes no reader any more, or is for a descriptor of another size, of which
// one lies.
func (d *download) join(ctx context.Context, size int64) (*Tail, <-chan struct{}, error) {
	select {
	case <-d.begun:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if d.failure != nil {
		return nil, nil, d.failure
	}
	if d.differs(size) {
		return nil, d.done, nil
	}
	t, ok, err := d.tail()
	switch {
	case !ok:
		return nil, d.done, nil
	case err != nil:
		return nil, nil, &Error{d.digest, err}
	}
	return t, nil, nil
}

// tail adds a reader. ok is false when the download takes none any more: it
// failed, or its bytes are on their way from the sink to the store. Until they
// are, a complete download has readers too, who need not wait for the disk.
func (d *download) tail() (t *Tail, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == failed {
		return nil, false, nil
	}
	f, err := d.sink.Tail()
	switch {
	case err != nil && d.state == complete:
		return nil, false, nil
	case err != nil:
		return nil, true, err
	}
	d.readers++
	if d.idle != nil {
		d.idle.Stop()
		d.idle = nil
	}
	return &Tail{d: d, f: f}, true, nil
}

// differs reports whether the download is for another size, -1 being any.
func (d *download) differs(size int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return size >= 0 && d.size >= 0 && size != d.size
}

func (d *download) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers--
	if d.readers > 0 || d.state != running {
		return
	}
	d.idle = time.AfterFunc(d.grace, d.giveUp)
}

// giveUp cancels the download unless somebody reads it again. Who comes before
// it has ended waits for that: it would only see the cancellation.
func (d *download) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readers > 0 || d.state != running {
		return
	}
	d.state = failed
	d.cancel(errIdle)
}

// changed wakes all readers. The caller holds mu.
func (d *download) changed() {
	close(d.wake)
	d.wake = make(chan struct{})
}

// end tells the readers how the download ended: with all bytes verified, or
// with err. What becomes of the bytes afterwards is not their concern: they have
// the right ones, or an error.
func (d *download) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = complete // also where its last bytes came while it was given up
	if err != nil {
		d.state, d.err = failed, &Error{d.digest, err}
		d.sizeKnown(d.size)
	}
	d.changed()
}

// sizeKnown sets the size once. The caller holds mu.
func (d *download) sizeKnown(n int64) {
	d.size = n
	select {
	case <-d.known:
	default:
		close(d.known)
	}
}

// fetch reads the source to its end, resuming it where it breaks.
func (d *download) fetch(ctx context.Context, src Source) error {
	h := d.digest.Algorithm().Hash()
	buf := make([]byte, chunk)
	pause, fruitless := retryPause, 0
	for {
		before := d.written
		err := d.attempt(ctx, src, h, buf)
		if err == nil {
			break
		}
		var p *permanentError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &p):
			return p.error
		}
		if d.written > before {
			pause, fruitless = retryPause, 0
		}
		if fruitless++; fruitless > d.retries {
			return fmt.Errorf("given up after %d tries at byte %d: %w", fruitless, d.written, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause/2 + rand.N(pause)): // not all downloads of an upstream that comes back at once
			pause *= 2
		}
	}
	if got := godigest.NewDigest(d.digest.Algorithm(), h); got != d.digest {
		return fmt.Errorf("%w: %d bytes with the digest %s", ErrMismatch, d.written, got)
	}
	return nil
}

// attempt opens the source where the last one ended, and copies until it ends.
func (d *download) attempt(ctx context.Context, src Source, h hash.Hash, buf []byte) error {
	d.mu.Lock()
	size := d.size
	d.mu.Unlock()
	body, total, err := src(ctx, d.written, size)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if total >= 0 {
		if size >= 0 && total != size {
			return Permanent(fmt.Errorf("%w: the upstream announces %d bytes, not %d", ErrMismatch, total, size))
		}
		size = total
		d.mu.Lock()
		d.sizeKnown(size)
		d.mu.Unlock()
	}
	for {
		n, rerr := body.Read(buf)
		if n > 0 {
			if size >= 0 && d.written+int64(n) > size {
				return Permanent(fmt.Errorf("%w: more than the %d bytes announced", ErrMismatch, size))
			}
			if _, err := d.sink.Write(buf[:n]); err != nil {
				return Permanent(err)
			}
			_, _ = h.Write(buf[:n])
			d.mu.Lock()
			d.written += int64(n)
			d.changed()
			d.mu.Unlock()
		}
		switch {
		case rerr == io.EOF && (size < 0 || d.written == size):
			return nil
		case rerr == io.EOF:
			return io.ErrUnexpectedEOF
		case rerr != nil:
			return rerr
		}
	}
}
