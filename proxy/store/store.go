package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	godigest "github.com/opencontainers/go-digest"
)

// ErrNotFound says that the store does not have a blob.
var ErrNotFound = errors.New("blob not found")

// maxThreads bounds the driver's concurrent calls. Warm reads do not count:
// they open files themselves.
const maxThreads = 100

// Store is the evictable cache of upstream content. It is safe for concurrent
// use by one process.
type Store struct {
	root   string
	driver driver.StorageDriver
}

// Open opens or makes the store in dir, and throws away what interrupted
// downloads left there.
func Open(dir string) (*Store, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{root: root, driver: filesystem.New(filesystem.DriverParameters{RootDirectory: root, MaxThreads: maxThreads})}
	if err := os.RemoveAll(s.spool()); err != nil {
		return nil, fmt.Errorf("store %s: clear the spool: %w", root, err)
	}
	if err := os.MkdirAll(s.spool(), 0o700); err != nil {
		return nil, fmt.Errorf("store %s: %w", root, err)
	}
	return s, nil
}

func (s *Store) spool() string { return filepath.Join(s.root, "spool") }

// blobPath is the place of a blob below the root (distribution's
// registry/storage/paths.go, layout v2).
func blobPath(d godigest.Digest) string {
	return "/docker/registry/v2/blobs/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
}

// Has reports whether the store has the blob.
func (s *Store) Has(_ context.Context, d godigest.Digest) (bool, error) {
	_, err := os.Stat(s.root + blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// OpenBlob opens a blob for reading. The caller closes the file. The error is
// ErrNotFound where the store does not have it.
func (s *Store) OpenBlob(d godigest.Digest) (*os.File, error) {
	f, err := os.Open(s.root + blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	return f, err
}

// Get reads a small blob (a manifest) whole and compares it with its digest.
// Bytes that rotted on the disk are removed and ErrNotFound, to be fetched again.
func (s *Store) Get(ctx context.Context, d godigest.Digest) ([]byte, error) {
	b, err := s.driver.GetContent(ctx, blobPath(d))
	var notFound driver.PathNotFoundError
	switch {
	case errors.As(err, &notFound):
		return nil, fmt.Errorf("%s: %w", d, ErrNotFound)
	case err != nil:
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

// Put stores a small blob whole. b must have the digest d.
func (s *Store) Put(ctx context.Context, d godigest.Digest, b []byte) error {
	if got := d.Algorithm().FromBytes(b); got != d {
		return fmt.Errorf("put %s: the bytes have the digest %s", d, got)
	}
	if err := s.driver.PutContent(ctx, blobPath(d), b); err != nil {
		return fmt.Errorf("put %s: %w", d, err)
	}
	return nil
}

// Remove takes a blob out of the store. Readers that have it open keep it.
func (s *Store) Remove(ctx context.Context, d godigest.Digest) error {
	err := s.driver.Delete(ctx, filepath.Dir(blobPath(d)))
	var notFound driver.PathNotFoundError
	if err != nil && !errors.As(err, &notFound) {
		return fmt.Errorf("remove %s: %w", d, err)
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
