package store

import (
	"errors"
	"fmt"
	"syscall"

	"go.uber.org/zap"
)

const (
	// Of the disk, min(keepBytes, 1/keepShare) stays free: databases on it and
	// the system need some.
	keepBytes = 1 << 30
	keepShare = 20
	// makeRoomTries bounds how often blobs are evicted for one reservation when
	// the disk does not become emptier by it: readers have the files open, or
	// somebody else writes.
	makeRoomTries = 3
)

// errNone says that no blob is left that may be evicted.
var errNone = errors.New("nothing left to evict")

// reserve promises n bytes to a download. It evicts blobs where that is needed
// and enough; else it evicts none, and the error is ErrFull.
func (s *Store) reserve(n int64) error {
	if n == 0 {
		return nil
	}
	if !s.index.claim(n, s.limit) {
		return fmt.Errorf("reserve %d bytes of %d: %w", n, s.limit, ErrFull)
	}
	if err := s.makeRoom(); err != nil {
		s.index.release(n, 0)
		return fmt.Errorf("reserve %d bytes: %w", n, err)
	}
	s.kick()
	return nil
}

// makeRoom evicts until all reservations fit. One caller at a time does so:
// the next finds what it freed.
func (s *Store) makeRoom() error {
	s.room.Lock()
	defer s.room.Unlock()
	for s.index.total() > s.limit {
		if _, err := s.evictOne(); err != nil && s.index.total() > s.limit {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	for try := 0; ; try++ {
		short, err := s.short()
		if err != nil || short <= 0 {
			return err
		}
		if try == makeRoomTries || short > s.index.evictable() {
			return fmt.Errorf("the disk has %d bytes too few: %w", short, ErrFull)
		}
		if err := s.evict(short); err != nil && !errors.Is(err, errNone) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
}

// short is how many bytes the disk has too few for what downloads will still
// write.
func (s *Store) short() (int64, error) {
	avail, total, err := s.free(s.root)
	if errors.Is(err, errors.ErrUnsupported) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.root, err)
	}
	return min(keepBytes, total/keepShare) - avail + s.index.pending(), nil
}

// evict frees at least need bytes, and one blob.
func (s *Store) evict(need int64) error {
	var freed int64
	for first := true; first || freed < need; first = false {
		n, err := s.evictOne()
		if err != nil {
			return err
		}
		freed += n
	}
	return nil
}

// evictOne removes the blob that was not used for the longest time and returns
// its size. The error is errNone where all are pinned.
func (s *Store) evictOne() (int64, error) {
	s.disk.Lock()
	defer s.disk.Unlock()
	var e *entry
	if !s.keep {
		e = s.index.victim()
	}
	if e == nil {
		return 0, errNone
	}
	if err := s.drop(e); err != nil {
		return 0, err
	}
	s.metrics.evicted.Add(float64(e.size))
	s.log.Debug("blob evicted", zap.Stringer("digest", e.digest), zap.Int64("bytes", e.size))
	return e.size, nil
}

// kick starts the eviction in the background where the high watermark is
// passed.
func (s *Store) kick() {
	if s.keep || s.index.total() <= s.high {
		return
	}
	s.background.Lock()
	defer s.background.Unlock()
	if !s.shrinking && !s.closed {
		s.shrinking = true
		s.running.Go(s.shrink)
	}
}

// shrink evicts to the low watermark.
func (s *Store) shrink() {
	var bytes int64
	var blobs int
	for s.above() {
		n, err := s.evictOne()
		if err != nil {
			s.background.Lock()
			s.shrinking = false
			s.background.Unlock()
			if !errors.Is(err, errNone) {
				s.log.Warn("eviction stopped", zap.Error(err))
			}
			break
		}
		bytes += n
		blobs++
	}
	if blobs > 0 {
		s.log.Info("cache evicted", zap.Int("blobs", blobs), zap.Int64("bytes", bytes))
	}
}

// above reports whether shrink has to go on, and else notes its end in the same
// moment, so that no kick is lost.
func (s *Store) above() bool {
	s.background.Lock()
	defer s.background.Unlock()
	s.shrinking = !s.closed && s.index.total() > s.low
	return s.shrinking
}

// retryFull calls write, and once more after an eviction if the disk is full.
// That evicts one blob at least: the disk may be out of inodes. The error of a
// full disk is ErrFull, too.
func (s *Store) retryFull(write func() error) error {
	err := write()
	if !diskFull(err) {
		return err
	}
	short, serr := s.short()
	if serr != nil {
		return fmt.Errorf("%w: %w", asFull(err), serr)
	}
	s.log.Warn("disk full, content is evicted", zap.Int64("bytes", short), zap.Error(err))
	if everr := s.evict(short); everr != nil && !errors.Is(everr, errNone) {
		return fmt.Errorf("%w: %w", asFull(err), everr)
	}
	return asFull(write())
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// asFull adds ErrFull to the error of a full disk.
func asFull(err error) error {
	if diskFull(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
