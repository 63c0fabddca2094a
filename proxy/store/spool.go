package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	godigest "github.com/opencontainers/go-digest"
)

// Spool is the place of one download until its bytes are verified.
type Spool struct {
	store *Store
	f     *os.File
}

// NewSpool makes a place for a download.
func (s *Store) NewSpool() (*Spool, error) {
	f, err := os.CreateTemp(s.spool(), "blob-*")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &Spool{store: s, f: f}, nil
}

// Write appends to the download.
func (p *Spool) Write(b []byte) (int, error) { return p.f.Write(b) }

// Tail opens an independent handle on what has been written so far. It stays
// readable after Commit and Abort.
func (p *Spool) Tail() (*os.File, error) { return os.Open(p.f.Name()) }

// Commit moves the bytes, which the caller has verified, to the place of d.
func (p *Spool) Commit(ctx context.Context, d godigest.Digest, _ int64) error {
	if err := errors.Join(p.f.Sync(), p.f.Close()); err != nil {
		return fmt.Errorf("spool of %s: %w", d, err)
	}
	if err := p.store.driver.Move(ctx, "/spool/"+filepath.Base(p.f.Name()), blobPath(d)); err != nil {
		return fmt.Errorf("spool of %s: %w", d, err)
	}
	return nil
}

// Abort throws the bytes away.
func (p *Spool) Abort() error {
	err := p.f.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	rerr := os.Remove(p.f.Name())
	if errors.Is(rerr, fs.ErrNotExist) {
		rerr = nil
	}
	return errors.Join(err, rerr)
}
