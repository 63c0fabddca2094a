package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

var (
	// ErrNotFound says that the store does not have a blob.
	ErrNotFound = errors.New("blob not found")
	// ErrFull says that there is no space for a download, and that evicting what
	// may be evicted would not make it.
	ErrFull = errors.New("the cache is full")
)

const (
	// maxThreads bounds the driver's concurrent calls. Warm reads do not count:
	// they open files themselves.
	maxThreads = 100

	defaultHigh = .95
	defaultLow  = .85

	// unbounded is the bound where none is configured. Sums of two such do not
	// overflow.
	unbounded = math.MaxInt64 / 2
)

// Options of a Store. Metrics and Log are required.
type Options struct {
	// MaxBytes bounds the bytes of blobs and of downloads under way. 0 = no
	// bound but the disk's.
	MaxBytes int64
	// Keep never evicts: a store that is full answers ErrFull. It is for content
	// that cannot be had again.
	Keep bool
	// Name stands in the names of the metrics: sluice_<name>_bytes. Default "cache".
	Name string
	// High and Low are watermarks, as parts of MaxBytes: past High, blobs are
	// evicted in the background until Low. 0 = 0.95 and 0.85.
	High, Low float64
	Metrics   prometheus.Registerer
	Log       *zap.Logger
	Now       func() time.Time // nil = time.Now
}

// Store is the evictable cache of upstream content. It is safe for concurrent
// use by one process.
// Its locks are taken in the order room, disk, index.mu; background comes alone or
// before index.mu.
type Store struct {
	root       string
	driver     driver.StorageDriver
	limit      int64 // hard bound
	high, low  int64 // watermarks
	keep       bool
	free       func(dir string) (avail, total int64, err error)
	now        func() time.Time
	log        *zap.Logger
	metrics    metrics
	room       sync.Mutex      // held while space is made for a reservation
	disk       sync.Mutex      // held while files under blobs come and go
	synced     map[string]bool // folders whose name survives a crash of the machine; guarded by disk
	index      index
	background sync.Mutex // guards the two below
	shrinking  bool
	closed     bool
	running    sync.WaitGroup
}

// Open opens or makes the store in dir. It throws away what interrupted
// downloads left there, and rebuilds the index from the blobs' files. The
// caller closes the store.
func Open(dir string, opts Options) (*Store, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if opts.High == 0 {
		opts.High = defaultHigh
	}
	if opts.Low == 0 {
		opts.Low = min(defaultLow, opts.High)
	}
	if opts.MaxBytes < 0 || !(0 < opts.Low && opts.Low <= opts.High && opts.High <= 1) { // also false for NaN
		return nil, fmt.Errorf("store %s: at most %d bytes with the watermarks %g and %g: want 0 < low <= high <= 1", root, opts.MaxBytes, opts.Low, opts.High)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Name == "" {
		opts.Name = "cache"
	}
	s := &Store{
		root: root, driver: filesystem.New(filesystem.DriverParameters{RootDirectory: root, MaxThreads: maxThreads}),
		limit: unbounded, synced: map[string]bool{}, keep: opts.Keep, free: freeBytes, now: opts.Now, log: opts.Log,
	}
	if opts.MaxBytes > 0 {
		s.limit = min(opts.MaxBytes, unbounded)
	}
	s.high, s.low = int64(float64(s.limit)*opts.High), int64(float64(s.limit)*opts.Low)
	if err := os.RemoveAll(s.spool()); err != nil {
		return nil, fmt.Errorf("store %s: clear the spool: %w", root, err)
	}
	if err := os.MkdirAll(s.spool(), 0o700); err != nil {
		return nil, fmt.Errorf("store %s: %w", root, err)
	}
	if err := s.rebuild(); err != nil {
		return nil, fmt.Errorf("store %s: %w", root, err)
	}
	if err := s.register(opts.Metrics, opts.Name, opts.MaxBytes); err != nil {
		return nil, fmt.Errorf("store %s: %w", root, err)
	}
	s.kick()
	return s, nil
}

// Close ends the eviction in the background. It may be called again.
func (s *Store) Close() {
	s.background.Lock()
	s.closed = true
	s.background.Unlock()
	s.running.Wait()
}

func (s *Store) spool() string { return filepath.Join(s.root, "spool") }

// blobPath is the place of a blob below the root (distribution's
// registry/storage/paths.go, layout v2).
func blobPath(d godigest.Digest) string {
	return blobsPath + "/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/" + dataName
}

const (
	blobsPath = "/docker/registry/v2/blobs"
	dataName  = "data"
)

// Has reports whether the store has the blob. It is no use of the blob.
func (s *Store) Has(_ context.Context, d godigest.Digest) (bool, error) {
	if !s.index.has(d) {
		return false, nil
	}
	_, err := os.Stat(s.root + blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// OpenBlob opens a blob for reading. The caller closes the file, and can read
// it to its end even if the blob is evicted meanwhile. The error is ErrNotFound
// where the store does not have it. A file of another length than the blob's is
// removed and ErrNotFound.
func (s *Store) OpenBlob(d godigest.Digest) (*os.File, error) {
	f, err := s.open(d)
	switch {
	case err == nil:
		s.metrics.hits.Inc()
	case errors.Is(err, ErrNotFound):
		s.metrics.misses.Inc()
	}
	return f, err
}

func (s *Store) open(d godigest.Digest) (*os.File, error) {
	path := s.root + blobPath(d)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.lost(d)
		return nil, fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	now := s.now()
	size, known, save := s.index.touch(d, now)
	if !known { // it comes or goes at this moment, and may go because it is damaged
		s.disk.Lock()
		size, known, save = s.index.touch(d, now)
		s.disk.Unlock()
	}
	if !known {
		return nil, errors.Join(fmt.Errorf("%s: %w", d, ErrNotFound), f.Close())
	}
	if !info.Mode().IsRegular() || info.Size() != size {
		if err := errors.Join(f.Close(), s.remove(d)); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s: the stored file was damaged and is removed: %w", d, ErrNotFound)
	}
	if save { // it may be evicted at this moment, and then needs no time of use
		if err := os.Chtimes(path, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Debug("last use not saved", zap.Stringer("digest", d), zap.Error(err))
		}
	}
	return f, nil
}

// lost takes a blob out of the index whose file somebody else removed.
func (s *Store) lost(d godigest.Digest) {
	if !s.index.has(d) {
		return
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if _, err := os.Lstat(s.root + blobPath(d)); errors.Is(err, fs.ErrNotExist) {
		if e := s.index.take(d); e != nil {
			s.index.freed(e)
		}
	}
}

// Get reads a small blob (a manifest) whole and compares it with its digest.
// Bytes that rotted on the disk are removed and ErrNotFound, to be fetched again.
func (s *Store) Get(ctx context.Context, d godigest.Digest) ([]byte, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	if got := d.Algorithm().FromBytes(b); got != d {
		if err := s.Remove(ctx, d); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s: the stored bytes had the digest %s and were removed: %w", d, got, ErrNotFound)
	}
	return b, nil
}

// Put stores a small blob whole. b must have the digest d. The error is ErrFull
// where there is no space for it.
func (s *Store) Put(ctx context.Context, d godigest.Digest, b []byte) error {
	if got := d.Algorithm().FromBytes(b); got != d {
		return fmt.Errorf("put %s: the bytes have the digest %s", d, got)
	}
	p, err := s.NewSpool(int64(len(b)))
	if err != nil {
		return fmt.Errorf("put %s: %w", d, err)
	}
	_, err = p.Write(b)
	if err == nil {
		err = p.Commit(ctx, d, int64(len(b)))
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", d, errors.Join(err, p.Abort()))
	}
	return nil
}

// Remove takes a blob out of the store, pinned or not. Readers that have it
// open keep it.
func (s *Store) Remove(_ context.Context, d godigest.Digest) error { return s.remove(d) }

func (s *Store) remove(d godigest.Digest) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if e := s.index.take(d); e != nil {
		return s.drop(e)
	}
	if err := os.RemoveAll(filepath.Dir(s.root + blobPath(d))); err != nil {
		return fmt.Errorf("remove %s: %w", d, err)
	}
	return nil
}

// drop removes the file of a blob that has left the index. Where it cannot, the
// blob goes back there. The caller holds disk.
func (s *Store) drop(e *entry) error {
	if err := os.RemoveAll(filepath.Dir(s.root + blobPath(e.digest))); err != nil {
		s.index.restore(e, s.now())
		return fmt.Errorf("remove %s: %w", e.digest, err)
	}
	s.index.freed(e)
	return nil
}

// Pin keeps a blob from being evicted until unpin is called, whether the store
// has it already or gets it later. It is for content that will be opened again;
// an open file needs no pin. What OpenBlob finds after Pin is not evicted before
// unpin; Pin does not say whether it finds anything. Pins of one blob add up;
// calling one unpin again does nothing.
func (s *Store) Pin(d godigest.Digest) (unpin func()) {
	s.disk.Lock() // an eviction that has chosen d ends first
	s.index.pin(d)
	s.disk.Unlock()
	return sync.OnceFunc(func() {
		s.index.unpin(d, s.now())
		s.kick()
	})
}

// Walk calls f for each blob with its size and its last use, which is coarse. It
// ends with the first error. Blobs that come meanwhile may be left out.
func (s *Store) Walk(f func(d godigest.Digest, size int64, used time.Time) error) error {
	for _, e := range s.index.snapshot() {
		if err := f(e.digest, e.size, time.Unix(e.used, 0)); err != nil {
			return err
		}
	}
	return nil
}

// Check proves that the store can be written.
func (s *Store) Check() error {
	f, err := os.CreateTemp(s.spool(), "check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
