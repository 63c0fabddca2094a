package advisory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// Store holds the index of a directory over its updates. It is safe for use by
// many goroutines.
type Store struct {
	dir      string
	log      *zap.Logger
	current  atomic.Pointer[Index]
	progress atomic.Pointer[Progress]
	reload   sync.Mutex
}

// NewStore returns a Store over dir, with no index until Reload or Update.
func NewStore(dir string, log *zap.Logger) *Store {
	return &Store{dir: dir, log: log.Named("advisory")}
}

// Path is the index file's.
func (s *Store) Path() string { return filepath.Join(s.dir, indexName) }

// Current returns the newest index that was opened, nil if there is none. It
// stays usable after it was replaced, for as long as the caller keeps it.
func (s *Store) Current() *Index { return s.current.Load() }

// Reload opens the index file if it is another one than the current index, as
// when `sluice db update` replaced it; else it costs a stat. A missing file is
// no error and changes nothing. After an error the current index stays.
func (s *Store) Reload() error {
	s.reload.Lock()
	defer s.reload.Unlock()
	info, err := os.Stat(s.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("advisory index: %w", err)
	}
	old := s.current.Load()
	if old != nil && os.SameFile(old.info, info) && old.info.ModTime().Equal(info.ModTime()) && old.info.Size() == info.Size() {
		return nil
	}
	x, err := Open(s.Path())
	if err != nil {
		return fmt.Errorf("advisory index: %w", err)
	}
	s.current.Store(x)
	s.log.Info("advisory index opened", zap.String("revision", x.Revision()),
		zap.Int("advisories", x.stats.Advisories), zap.Time("updated", x.Updated()))
	return nil
}

// Update compiles a new index into the directory and makes it the current one.
// opts.Dir is set by the Store. After an error the current index stays. It wraps
// ErrBusy if an update of the directory is running, here or in another process.
func (s *Store) Update(ctx context.Context, src Source, opts CompileOptions) (Stats, error) {
	opts.Dir = s.dir
	mine := new(Progress)
	if !s.progress.CompareAndSwap(nil, mine) {
		return Stats{}, fmt.Errorf("advisory index: %w", ErrBusy)
	}
	defer s.progress.Store(nil)
	report := opts.Progress
	opts.Progress = func(p Progress) {
		s.progress.Store(&p)
		if report != nil {
			report(p)
		}
	}
	stats, err := Compile(ctx, src, opts)
	if err != nil {
		return Stats{}, err
	}
	return stats, s.Reload()
}

// Updating reports how far an update of this Store is; false when none is running.
func (s *Store) Updating() (Progress, bool) {
	p := s.progress.Load()
	if p == nil {
		return Progress{}, false
	}
	return *p, true
}
