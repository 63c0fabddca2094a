package analyzer

import (
	"context"
	"io"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"
)

// Arrival scans a blob while it arrives, so that its result is there before the
// manifest that names it. Whoever writes it is held to the pace of the scan, at
// most arrivalBlocks blocks ahead. Nothing that goes wrong is told: then the
// blob is scanned when it is asked for. Its methods are for one goroutine.
type Arrival struct {
	a      *Analyzer
	ctx    context.Context //nolint:containedctx // the life of the scan, which outlasts the requests that feed it
	cancel context.CancelFunc
	blocks chan []byte
	free   chan []byte
	done   chan struct{}
	layer  *Layer          // nil until done, and after an error
	size   int64           // of what was written
	digest godigest.Digest // set by Finish, before the end of the blocks
	begun  bool
	skip   bool
	closed bool // blocks is
	ended  bool
}

const (
	arrivalBlocks = 8
	arrivalBlock  = 256 << 10
)

// Arriving returns an Arrival, or nil where as many scans are under way as may
// be, or nothing would keep the result. Its scan ends with ctx.
func (a *Analyzer) Arriving(ctx context.Context) *Arrival {
	if a.cache == nil {
		return nil
	}
	select {
	case a.arrivals <- struct{}{}:
	default:
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	return &Arrival{
		a: a, ctx: ctx, cancel: cancel, done: make(chan struct{}),
		blocks: make(chan []byte, arrivalBlocks), free: make(chan []byte, arrivalBlocks+2),
	}
}

// Write takes the next bytes. Blobs that are not compressed as layers are, which
// configs and documents are not, are not scanned.
func (r *Arrival) Write(p []byte) {
	if r.skip || len(p) == 0 {
		return
	}
	if !r.begun {
		if !compressed(p) {
			r.skip = true
			return
		}
		r.begun = true
		go r.scan()
	}
	r.size += int64(len(p))
	for len(p) > 0 {
		var b []byte
		select {
		case b = <-r.free:
		default:
			b = make([]byte, arrivalBlock)
		}
		n := copy(b[:arrivalBlock], p)
		p = p[n:]
		select {
		case r.blocks <- b[:n]:
		case <-r.done: // it failed
			r.skip = true
			return
		}
	}
}

// compressed knows the magic bytes of gzip (RFC 1952, 2.3.1) and zstd (RFC 8878,
// 3.1.1).
func compressed(p []byte) bool {
	return len(p) >= 4 && (p[0] == 0x1f && p[1] == 0x8b || p[0] == 0x28 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd)
}

func (r *Arrival) scan() {
	defer close(r.done)
	l, err := r.a.scanner.Scan(r.ctx, &arrivalReader{r: r})
	if err != nil {
		r.a.log.Debug("layer not scanned on arrival", zap.Error(err))
		return
	}
	r.layer = l
}

// Finish says that the blob is whole and has the digest d, waits for the scan,
// and keeps its result if that read the same bytes.
func (r *Arrival) Finish(ctx context.Context, d godigest.Digest) {
	defer r.Abort()
	if !r.begun || r.skip {
		return
	}
	r.digest = d
	r.end()
	select {
	case <-r.done:
	case <-ctx.Done():
		return
	}
	if r.layer == nil || r.layer.Lost || r.layer.Digest != d {
		return
	}
	if err := r.a.cache.PutLayer(ctx, r.a.scanner.Revision(), r.layer); err != nil && ctx.Err() == nil {
		r.a.log.Warn("layer cache not written", zap.Stringer("digest", d), zap.Error(err))
	}
}

// end tells the scan that no more bytes come.
func (r *Arrival) end() {
	if !r.closed {
		r.closed = true
		close(r.blocks)
	}
}

// Abort ends the scan and gives its place back. After Finish it does nothing.
func (r *Arrival) Abort() {
	if r.ended {
		return
	}
	r.ended = true
	r.cancel()
	r.end()
	if r.begun {
		<-r.done
	}
	<-r.a.arrivals
}

// arrivalReader is the blob as the scan sees it. It is Proven: whoever writes
// the blob has computed its digest.
type arrivalReader struct {
	r   *Arrival
	cur []byte
	off int
}

func (a *arrivalReader) Read(p []byte) (int, error) {
	for a.off == len(a.cur) {
		if a.cur != nil {
			select {
			case a.r.free <- a.cur:
			default:
			}
		}
		select {
		case b, ok := <-a.r.blocks:
			switch {
			case ok:
				a.cur, a.off = b, 0
			case a.r.ctx.Err() != nil: // cut, not ended
				a.cur = nil
				return 0, io.ErrUnexpectedEOF
			default:
				a.cur = nil
				return 0, io.EOF
			}
		case <-a.r.ctx.Done():
			return 0, context.Cause(a.r.ctx)
		}
	}
	n := copy(p, a.cur[a.off:])
	a.off += n
	return n, nil
}

// Proof is asked for after the last block, which comes when Finish has said what
// the digest is, or never will.
func (a *arrivalReader) Proof() (godigest.Digest, int64, error) {
	if a.r.digest == "" {
		return "", 0, io.ErrUnexpectedEOF
	}
	return a.r.digest, a.r.size, nil
}
