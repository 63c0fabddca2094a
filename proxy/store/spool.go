package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	godigest "github.com/opencontainers/go-digest"
)

// Spool is the place of one download until its bytes are verified. All methods
// but Tail are for one goroutine.
type Spool struct {
	store    *Store
	f        *os.File
	w        io.Writer // f; a test puts a full disk in its place
	written  int64
	reserved int64 // at least written; 0 once the spool has ended
}

// NewSpool makes a place for a download and reserves size bytes; -1 is an
// unknown size, whose bytes are reserved as they are written. The error is
// ErrFull where there is no space for them. The caller ends the spool with
// Commit or, also after a Commit that failed, with Abort.
func (s *Store) NewSpool(size int64) (*Spool, error) {
	size = max(size, 0)
	if err := s.reserve(size); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	p := &Spool{store: s, reserved: size}
	err := s.retryFull(func() error {
		f, err := os.CreateTemp(s.spool(), "blob-*")
		p.f, p.w = f, f
		return err
	})
	if err != nil {
		s.index.release(size, 0)
		return nil, fmt.Errorf("spool: %w", err)
	}
	return p, nil
}

// Write appends to the download. Bytes past the reserved size are reserved
// first. When the disk is full, it evicts once and tries again; the error is
// then ErrFull and the system's.
func (p *Spool) Write(b []byte) (int, error) {
	if more := p.written + int64(len(b)) - p.reserved; more > 0 {
		if err := p.store.reserve(more); err != nil {
			return 0, fmt.Errorf("spool: %w", err)
		}
		p.reserved += more
	}
	n := 0
	err := p.store.retryFull(func() error {
		m, err := p.w.Write(b[n:])
		n += m
		p.written += int64(m)
		p.store.index.wrote(int64(m))
		return err
	})
	return n, err
}

// Tail opens an independent handle on what has been written so far. It stays
// readable after Commit and Abort.
func (p *Spool) Tail() (*os.File, error) { return os.Open(p.f.Name()) }

// Commit moves the bytes, which the caller has verified, to the place of d.
// size is how many they are.
func (p *Spool) Commit(ctx context.Context, d godigest.Digest, size int64) error {
	if size != p.written {
		return fmt.Errorf("spool of %s: %d bytes were written, not %d", d, p.written, size)
	}
	if err := errors.Join(p.f.Sync(), p.f.Close()); err != nil {
		return fmt.Errorf("spool of %s: %w", d, asFull(err))
	}
	if err := p.store.retryFull(func() error { return p.place(ctx, d) }); err != nil {
		return fmt.Errorf("spool of %s: %w", d, err)
	}
	p.store.kick()
	return nil
}

// place moves the file, and its bytes from the reservations to the blobs.
func (p *Spool) place(ctx context.Context, d godigest.Digest) error {
	s := p.store
	s.disk.Lock()
	defer s.disk.Unlock()
	if err := s.driver.Move(ctx, "/spool/"+filepath.Base(p.f.Name()), blobPath(d)); err != nil {
		return err
	}
	s.index.add(d, p.written, p.reserved, s.now())
	p.reserved, p.written = 0, 0
	if !s.keep {
		return nil
	}
	return s.syncDirs(filepath.Dir(s.root + blobPath(d)))
}

// syncDirs makes names in dir and in its parents up to the root survive a crash of
// the machine. What can be fetched again need not. Parents whose own name is known
// to survive are where it ends. The caller holds disk.
func (s *Store) syncDirs(dir string) error {
	var above []string // a blob's own folder is new each time; those above it never go
	for at := dir; len(at) >= len(s.root); at = filepath.Dir(at) {
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", at, err)
		}
		if s.synced[at] {
			break
		}
		if at != dir {
			above = append(above, at)
		}
	}
	for _, at := range above {
		s.synced[at] = true
	}
	return nil
}

// Abort throws the bytes away. After a Commit that succeeded it does nothing.
func (p *Spool) Abort() error {
	err := p.f.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	rerr := os.Remove(p.f.Name())
	if errors.Is(rerr, fs.ErrNotExist) {
		rerr = nil
	}
	p.store.index.release(p.reserved, p.written)
	p.reserved, p.written = 0, 0
	return errors.Join(err, rerr)
}
