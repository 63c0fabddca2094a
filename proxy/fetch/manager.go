package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"
)

// Source opens the upstream's stream of one blob from offset on. size is the
// whole size where it is known already, else -1; so is total. A Permanent
// error ends the download, others are tried again.
type Source func(ctx context.Context, offset, size int64) (body io.ReadCloser, total int64, err error)

// Sink takes the bytes of one download.
type Sink interface {
	io.Writer
	// Tail opens an independent handle on what has been written. It may fail
	// once Commit or Abort has begun.
	Tail() (*os.File, error)
	// Commit makes the blob available in the store. The bytes have been verified.
	Commit(ctx context.Context, d godigest.Digest, size int64) error
	// Abort throws the bytes away. It may be called after a failed Commit.
	Abort() error
}

// Options of a Manager.
type Options struct {
	// NewSink makes the place for a blob of size bytes, -1 if that is not known.
	NewSink func(ctx context.Context, d godigest.Digest, size int64) (Sink, error)
	// Stored reports whether the store has the blob.
	Stored func(ctx context.Context, d godigest.Digest) (bool, error)
	// Grace is how long a download goes on without a reader.
	Grace time.Duration
	// Retries is how often a cut download is resumed without any progress
	// before it fails.
	Retries int
	Log     *zap.Logger
}

// Manager runs the downloads. Its context is their life.
type Manager struct {
	ctx      context.Context //nolint:containedctx // the life of the shared downloads, not of a request
	opts     Options
	mu       sync.Mutex
	inflight map[godigest.Digest]*download
	running  sync.WaitGroup
}

// New returns a manager whose downloads end with ctx.
func New(ctx context.Context, opts Options) *Manager {
	return &Manager{ctx: ctx, opts: opts, inflight: make(map[godigest.Digest]*download)}
}

// Wait returns when every download has ended.
func (m *Manager) Wait() { m.running.Wait() }

var (
	// ErrStored says that the store has the blob: read it there.
	ErrStored = errors.New("blob is in the store")
	// ErrMismatch says that the upstream's bytes are not those of the digest.
	ErrMismatch = errors.New("content does not match its descriptor")
	// errIdle is the cause of a download that nobody reads any more.
	errIdle = errors.New("no reader left")
)

// Error is why a download failed. Every reader of it gets the same one.
type Error struct {
	Digest godigest.Digest
	Err    error
}

// Error names the blob and the cause.
func (e *Error) Error() string { return fmt.Sprintf("fetch %s: %v", e.Digest, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent marks an error of a Source that trying again cannot mend.
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ error }

func (p *permanentError) Unwrap() error { return p.error }

// Join returns a reader of the blob, starting its download if none runs. size
// is what a descriptor promises, or -1; other sizes are a mismatch. Join
// returns ErrStored when the store has the blob. The caller closes the Tail.
func (m *Manager) Join(ctx context.Context, d godigest.Digest, size int64, src Source) (*Tail, error) {
	for {
		dl, first := m.claim(d, size)
		if first {
			return m.start(dl, src) //nolint:contextcheck // a download lives on the manager's context
		}
		t, again, err := dl.join(ctx, size)
		if again == nil {
			return t, err
		}
		// It is being committed or undone, or is another's: look again after it.
		select {
		case <-again:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// claim returns the download of d. If there was none, it is a new one, which
// the caller starts; others wait for that. No lock is held meanwhile, since
// making room for a sink can take time.
func (m *Manager) claim(d godigest.Digest, size int64) (dl *download, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dl, ok := m.inflight[d]; ok {
		return dl, false
	}
	dl = newDownload(d, size, m.opts)
	m.inflight[d] = dl
	return dl, true
}

// start begins a download that was claimed, unless the store has the blob:
// nothing can commit it now, so that this answer holds.
func (m *Manager) start(dl *download, src Source) (*Tail, error) {
	t, err := m.begin(dl, src)
	if err != nil {
		dl.failure = err
		m.forget(dl)
	}
	close(dl.begun)
	return t, err
}

func (m *Manager) begin(dl *download, src Source) (*Tail, error) {
	stored, err := m.opts.Stored(m.ctx, dl.digest)
	if err == nil {
		err = context.Cause(m.ctx)
	}
	switch {
	case err != nil:
		return nil, &Error{dl.digest, err}
	case stored:
		return nil, ErrStored
	}
	if dl.sink, err = m.opts.NewSink(m.ctx, dl.digest, dl.size); err != nil {
		return nil, &Error{dl.digest, err}
	}
	ctx, cancel := context.WithCancelCause(m.ctx)
	dl.cancel = cancel
	t, _, err := dl.tail()
	if err != nil {
		cancel(err)
		_ = dl.sink.Abort()
		return nil, &Error{dl.digest, err}
	}
	m.running.Go(func() { m.run(ctx, dl, src) })
	return t, nil
}

// forget makes room for the next download of the digest.
func (m *Manager) forget(dl *download) {
	m.mu.Lock()
	delete(m.inflight, dl.digest)
	m.mu.Unlock()
	close(dl.done)
}

// run is the life of one download.
func (m *Manager) run(ctx context.Context, dl *download, src Source) {
	defer dl.cancel(nil)
	start := time.Now()
	err := dl.fetch(ctx, src)
	dl.end(err)
	if err == nil {
		err = dl.sink.Commit(context.WithoutCancel(ctx), dl.digest, dl.written)
	}
	if err != nil {
		if aerr := dl.sink.Abort(); aerr != nil {
			m.opts.Log.Warn("spool file not removed", zap.Stringer("digest", dl.digest), zap.Error(aerr))
		}
	}
	m.forget(dl)
	m.opts.Log.Debug("download ended", zap.Stringer("digest", dl.digest), zap.Int64("bytes", dl.written), zap.Duration("dur", time.Since(start)), zap.Error(err))
}
