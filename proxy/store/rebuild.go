package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// rebuildParallel is how many folders are read at once.
const rebuildParallel = 8

// rebuild fills the index from the files under blobs. The last use of a blob is
// its file's modification time. What is no blob there is removed: temporary
// files, odd names, links, empty folders, and empty files of blobs that are
// not empty.
func (s *Store) rebuild() error {
	start := s.now()
	r := &rebuilder{now: start}
	blobs := filepath.FromSlash(s.root + blobsPath)
	algorithms, err := os.ReadDir(blobs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var g errgroup.Group
	g.SetLimit(rebuildParallel)
	for _, a := range algorithms {
		dir := filepath.Join(blobs, a.Name())
		if !a.IsDir() || !godigest.Algorithm(a.Name()).Available() {
			if err := r.clear(dir); err != nil {
				return err
			}
			continue
		}
		shards, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, shard := range shards {
			g.Go(func() error { return r.shard(a.Name(), filepath.Join(dir, shard.Name()), shard) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortFunc(r.found, func(a, b found) int { return a.mtime.Compare(b.mtime) })
	entries := make([]*entry, len(r.found))
	for i, f := range r.found {
		used := f.mtime.Unix()
		entries[i] = &entry{digest: f.digest, size: f.size, used: used, saved: used}
	}
	s.index.load(entries)
	s.log.Info("cache opened", zap.Int("blobs", len(entries)), zap.Int64("bytes", s.index.total()),
		zap.Int("removed", r.removed), zap.Duration("dur", s.now().Sub(start)))
	return nil
}

// rebuilder gathers what is found.
type rebuilder struct {
	now     time.Time
	mu      sync.Mutex
	found   []found
	removed int
}

type found struct {
	digest godigest.Digest
	size   int64
	mtime  time.Time
}

// clear removes what is no blob.
func (r *rebuilder) clear(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removed++
	return nil
}

// shard reads the folder of the blobs that share two digits.
func (r *rebuilder) shard(algorithm, dir string, shard fs.DirEntry) error {
	if !shard.IsDir() {
		return r.clear(dir)
	}
	blobs, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var all []found
	for _, b := range blobs {
		path := filepath.Join(dir, b.Name())
		d, ok := blobDigest(algorithm, shard.Name(), b.Name())
		if !ok || !b.IsDir() {
			if err := r.clear(path); err != nil {
				return err
			}
			continue
		}
		f, ok, err := r.blob(d, path)
		if err != nil {
			return err
		}
		if ok {
			all = append(all, f)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, all...)
	return nil
}

// blob reads the folder of one blob. ok is false, and the folder gone, where
// its data is not there.
func (r *rebuilder) blob(d godigest.Digest, dir string) (f found, ok bool, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return found{}, false, err
	}
	for _, file := range files {
		if file.Name() != dataName || !file.Type().IsRegular() {
			if err := r.clear(filepath.Join(dir, file.Name())); err != nil {
				return found{}, false, err
			}
			continue
		}
		info, err := file.Info()
		if err != nil {
			return found{}, false, fmt.Errorf("blob %s: %w", d, err)
		}
		f = found{digest: d, size: info.Size(), mtime: info.ModTime()}
		if f.mtime.After(r.now) { // a clock was wrong: no blob is used in the future
			f.mtime = r.now
		}
		ok = f.size > 0 || d == d.Algorithm().FromBytes(nil)
	}
	if !ok {
		return found{}, false, r.clear(dir)
	}
	return f, true, nil
}

// blobDigest is the digest of the blob in the folder <algorithm>/<shard>/<name>.
// ok is false for a folder that blobPath gives to no digest.
func blobDigest(algorithm, shard, name string) (d godigest.Digest, ok bool) {
	d = godigest.NewDigestFromEncoded(godigest.Algorithm(algorithm), name)
	if d.Validate() != nil || name[:2] != shard {
		return "", false
	}
	return d, true
}
