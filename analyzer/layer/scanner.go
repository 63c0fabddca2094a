package layer

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/extract"
)

// revision changes with every change of what a scan finds. The library's
// version belongs to it: its parsers decide what a package is.
const revision = "3+scalibr0.5.3"

// Options are the limits of one scan. Zero values are replaced by the defaults.
type Options struct {
	// MaxEntries is the number of tar entries. Default 1,000,000.
	MaxEntries int
	// MaxPathBytes is the sum of the lengths of all paths. Default 128 MiB.
	MaxPathBytes int64
	// MaxUncompressed is the length of the tar stream in bytes; reading stops
	// there. Default 32 GiB.
	MaxUncompressed int64
	// MaxRatio is the highest ratio of uncompressed to stored bytes once 256 MiB
	// are uncompressed; reading stops there. Default 256 (deflate reaches 1032).
	MaxRatio int64
	// MaxFile is the size of the largest file whose content is looked at, in
	// bytes. Default 4 GiB.
	MaxFile int64
	// MaxMemory is the size up to which a file is held in memory, in bytes; a
	// larger one goes to a file in TempDir. Each running scan holds one such
	// buffer at most. Default 32 MiB.
	MaxMemory int64
	// TempDir is where large files and rpm databases are put. Default os.TempDir().
	TempDir string
	// Extract are the limits within one file. Its TempDir is this one's where empty.
	Extract extract.Options
}

func (o Options) withDefaults() Options {
	if o.MaxEntries <= 0 {
		o.MaxEntries = 1_000_000
	}
	if o.MaxPathBytes <= 0 {
		o.MaxPathBytes = 128 << 20
	}
	if o.MaxUncompressed <= 0 {
		o.MaxUncompressed = 32 << 30
	}
	if o.MaxRatio <= 0 {
		o.MaxRatio = 256
	}
	if o.MaxFile <= 0 {
		o.MaxFile = 4 << 30
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = 32 << 20
	}
	if o.Extract.TempDir == "" {
		o.Extract.TempDir = o.TempDir
	}
	return o
}

// Scanner is an analyzer.LayerScanner. It is safe for concurrent use.
type Scanner struct {
	opts     Options
	extract  *extract.Extractor
	revision string
}

var _ analyzer.LayerScanner = (*Scanner)(nil)

// New returns a Scanner.
func New(opts Options) (*Scanner, error) {
	opts = opts.withDefaults()
	ex, err := extract.New(opts.Extract)
	if err != nil {
		return nil, err
	}
	limits, inner := opts, ex.Options()
	limits.TempDir, inner.TempDir = "", ""
	limits.Extract = inner
	return &Scanner{
		opts: opts, extract: ex,
		revision: fmt.Sprintf("%s-%08x", revision, crc32.ChecksumIEEE(fmt.Append(nil, limits))),
	}, nil
}

// Revision names the scanner's code and its limits.
func (s *Scanner) Revision() string { return s.revision }

// Options are the Scanner's limits, with their defaults.
func (s *Scanner) Options() Options { return s.opts }

// Scan reads blob to its end, or to a limit. It returns early with the
// context's error once ctx is done, but not before a pending blob.Read returns.
func (s *Scanner) Scan(ctx context.Context, blob io.Reader) (l *analyzer.Layer, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	st := newStream(blob, s.opts)
	g.Go(caught(func() error { return st.produce(gctx) }))

	w := &walk{
		opts: s.opts, ex: s.extract, session: s.extract.NewSession(),
		found: map[string]*found{}, dirs: map[string]struct{}{}, setuid: map[string]struct{}{},
		links: map[string]string{},
	}
	defer func() { err = errors.Join(err, w.session.Close()) }()
	g.Go(caught(func() error { return w.run(gctx, st.blocks(gctx)) }))
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	return w.layer(st), nil
}

// caught turns a panic in f into an error: a defect in a decompressor or in the
// tar reader must cost one image, not the process.
func caught(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		return f()
	}
}
