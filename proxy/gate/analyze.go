package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// contentError says that an image's bytes arrived and cannot be analysed.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// flights are the analyses under way, by manifest digest.
type flights struct {
	mu sync.Mutex
	m  map[godigest.Digest]*flight
}

// flight is one analysis. inv and err are set before done is closed.
type flight struct {
	done chan struct{}
	inv  *analyzer.Inventory
	err  error
}

// inventory returns what the image holds: from the records, or by one analysis
// for everyone who asks meanwhile. It waits at most for hold and then returns an
// *analysingError, while the analysis goes on.
func (g *Gate) inventory(ctx context.Context, rt route.Route, e *entry, hold time.Duration) (*analyzer.Inventory, error) {
	inv, ok, err := g.opts.Records.Inventory(ctx, e.key.digest, g.opts.Analyzer.Revision())
	if err != nil || ok {
		return inv, err
	}
	f := g.startAnalysis(rt, e) //nolint:contextcheck // many wait for it: it lives on the gate's context
	ctx, cancel := context.WithTimeoutCause(ctx, hold, errHold)
	defer cancel()
	select {
	case <-f.done:
		return f.inv, f.err
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errHold) {
			return nil, &analysingError{&PendingError{
				Reason:     fmt.Sprintf("%s is being analysed; the verdict is not in yet, pull again in a moment", e.key),
				RetryAfter: pendingRetry,
			}}
		}
		return nil, context.Cause(ctx)
	}
}

func (g *Gate) startAnalysis(rt route.Route, e *entry) *flight {
	g.analyses.mu.Lock()
	defer g.analyses.mu.Unlock()
	if f, ok := g.analyses.m[e.key.digest]; ok {
		return f
	}
	f := &flight{done: make(chan struct{})}
	g.analyses.m[e.key.digest] = f
	g.running.Go(func() {
		f.inv, f.err = g.analyze(rt, e)
		g.analyses.mu.Lock()
		delete(g.analyses.m, e.key.digest)
		g.analyses.mu.Unlock()
		close(f.done)
	})
	return f
}

// analyze downloads and analyses the image, on the server's life.
func (g *Gate) analyze(rt route.Route, e *entry) (*analyzer.Inventory, error) {
	ctx, cancel := context.WithTimeoutCause(g.ctx, g.opts.AnalysisTimeout, fmt.Errorf("the analysis took longer than %s", g.opts.AnalysisTimeout))
	defer cancel()
	// A waiter may have looked into the records before the last analysis of
	// this digest was stored, and come here after it had left the map.
	if inv, ok, err := g.opts.Records.Inventory(ctx, e.key.digest, g.opts.Analyzer.Revision()); err != nil || ok {
		return inv, err
	}
	for _, d := range e.manifest.Members() { // what was fetched must not be evicted before it is read
		defer g.opts.Store.Pin(d)()
	}
	start := g.now()
	g.metrics.analyses.Inc()
	ahead, stop := context.WithCancel(ctx)
	var downloads sync.WaitGroup
	if !rt.Local {
		downloads.Go(func() { g.fetchAhead(ahead, rt, e.manifest.Layers) })
	}
	defer downloads.Wait()
	defer stop()
	inv, err := g.opts.Analyzer.Inventory(ctx, e.manifest.Image(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return g.openUnjudged(ctx, rt, desc)
	}))
	dur := g.now().Sub(start)
	g.metrics.analysisSeconds.Observe(dur.Seconds())
	if err != nil {
		g.opts.Log.Warn("analysis failed", zap.String("repository", e.key.name), zap.Stringer("digest", e.key.digest), zap.Duration("dur", dur), zap.Error(err))
		return nil, g.classify(ctx, err)
	}
	if err := g.opts.Records.PutInventory(ctx, inv); err != nil {
		return nil, err
	}
	g.opts.Log.Info("image analysed", zap.String("repository", e.key.name), zap.Stringer("digest", e.key.digest),
		zap.Int("packages", len(inv.Packages)), zap.Int("secrets", len(inv.Secrets)), zap.Duration("dur", dur))
	return inv, nil
}

// maxAhead is how many blobs of an image are downloaded at once: as many as
// containerd asks for (reference: peers.md, section 3).
const maxAhead = 6

// fetchAhead downloads the layers at the pace of the network, whatever pace the
// analyser reads them at. Errors are left for the analyser to meet.
func (g *Gate) fetchAhead(ctx context.Context, rt route.Route, layers []ocispec.Descriptor) {
	var downloads errgroup.Group
	downloads.SetLimit(maxAhead)
	for _, desc := range layers {
		downloads.Go(func() error {
			f, t, err := g.open(ctx, rt, desc)
			switch {
			case err != nil:
				return nil
			case f != nil:
				return f.Close()
			}
			defer func() { _ = t.Close() }()
			return t.Verified(ctx)
		})
	}
	if err := downloads.Wait(); err != nil && ctx.Err() == nil {
		g.opts.Log.Debug("layers not fetched ahead", zap.Error(err))
	}
}

// sourceError is an error of getting the bytes, wherever they should have come
// from.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// classify tells the image's fault, which the policy judges, from everyone
// else's: the upstream, the disk, the server that stops.
func (g *Gate) classify(ctx context.Context, err error) error {
	var (
		source *sourceError
		local  *fs.PathError // of a temporary file
	)
	switch {
	case g.ctx.Err() != nil:
		return context.Cause(g.ctx) //nolint:contextcheck // the server stops
	case ctx.Err() != nil: // it took too long, which is evidence
		return &contentError{context.Cause(ctx)}
	case errors.As(err, &source), errors.As(err, &local):
		return err
	}
	return &contentError{err}
}

// openUnjudged opens a blob for the analyser: from the store, or while it is
// downloaded. Its bytes must not go anywhere else.
func (g *Gate) openUnjudged(ctx context.Context, rt route.Route, desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, t, err := g.open(ctx, rt, desc)
	switch {
	case err != nil:
		if errors.Is(err, analyzer.ErrElsewhere) {
			return nil, err
		}
		return nil, &sourceError{err}
	case f != nil:
		return &source{ReadCloser: f}, nil
	}
	return &download{
		source: source{ReadCloser: t.Unverified(ctx), proof: func() error { return t.Verified(ctx) }, foreign: len(desc.URLs) > 0},
		proven: func() (godigest.Digest, int64, error) {
			if err := t.Verified(ctx); err != nil {
				return "", 0, &sourceError{err}
			}
			n, err := t.Size(ctx)
			return desc.Digest, n, err
		},
	}, nil
}

// download is a source whose digest the download computes: an analyzer.Proven.
type download struct {
	source
	proven func() (godigest.Digest, int64, error)
}

func (d *download) Proof() (godigest.Digest, int64, error) { return d.proven() }

// source is a stream for the analyser. Its errors are marked as not the image's
// fault, and Close tells whether a download's bytes were right: an analyser that
// stumbles over wrong bytes learns so that the upstream sent them.
type source struct {
	io.ReadCloser
	proof   func() error // nil for a blob of the store
	foreign bool         // the descriptor names other addresses
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case s.foreign && missing(err):
		err = analyzer.ErrElsewhere
	default:
		err = &sourceError{err}
	}
	return n, err
}

func (s *source) Close() error {
	var err error
	if s.proof != nil {
		err = s.proof()
	}
	if err = errors.Join(err, s.ReadCloser.Close()); err != nil {
		return &sourceError{err}
	}
	return nil
}

// wait waits for a shared call, or for the caller's end.
func wait[T any](ctx context.Context, ch <-chan singleflight.Result, value func(any) T) (T, error) {
	var zero T
	select {
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	case r := <-ch:
		if r.Err != nil {
			return zero, r.Err
		}
		return value(r.Val), nil
	}
}
