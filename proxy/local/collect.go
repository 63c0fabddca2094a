package local

import (
	"context"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/records"
)

// Garbage is what Collect removed, or would.
type Garbage struct {
	Images []Expired         `json:"images"` // manifests that Expired let go
	Links  []records.Link    `json:"links"`  // blobs that no manifest of their repository names
	Blobs  []godigest.Digest `json:"blobs"`  // content that no repository has any more
	Bytes  int64             `json:"bytes"`  // of Blobs
}

// Collect removes the blobs that no manifest of their repository names and that
// were last said to exist before the grace, and then content that no repository
// has. Pushes and pulls go on meanwhile. With dryRun it only tells what it would
// remove after images had gone.
func (r *Registry) Collect(ctx context.Context, images []Expired, dryRun bool) (Garbage, error) {
	r.opts.Uploads.Purge()
	before := r.before()
	g := Garbage{Images: append([]Expired{}, images...), Links: []records.Link{}, Blobs: []godigest.Digest{}}
	if !dryRun {
		_, alone, err := r.orphans(ctx, before)
		if err != nil {
			return g, err
		}
		if err := r.opts.Records.ForgetDeleted(ctx, alone, before); err != nil {
			return g, err
		}
	}
	links, err := r.opts.Records.UnusedBlobs(ctx, before)
	if err != nil {
		return g, err
	}
	gone := map[place]bool{}
	for _, e := range images {
		gone[place{e.Name, e.Digest}] = true
	}
	for _, l := range links {
		ok := dryRun
		if !dryRun {
			if ok, err = r.opts.Records.UnlinkUnused(ctx, l, before); err != nil {
				return g, err
			}
		}
		if ok {
			g.Links = append(g.Links, l)
			gone[place{l.Name, l.Digest}] = true
		}
	}
	err = r.opts.Store.Walk(func(d godigest.Digest, size int64, used time.Time) error {
		if used.After(before) {
			return nil
		}
		removed, err := r.sweep(ctx, d, gone, dryRun)
		if err == nil && removed {
			g.Blobs = append(g.Blobs, d)
			g.Bytes += size
		}
		return err
	})
	if err == nil && len(g.Blobs) > 0 && !dryRun {
		r.opts.Log.Info("garbage collected", zap.Int("links", len(g.Links)), zap.Int("blobs", len(g.Blobs)), zap.Int64("bytes", g.Bytes))
	}
	return g, err
}

// sweep removes content that no repository has. gone are the links and
// manifests that a dry run would have taken away.
func (r *Registry) sweep(ctx context.Context, d godigest.Digest, gone map[place]bool, dryRun bool) (bool, error) {
	if dryRun {
		return r.wouldGo(ctx, d, gone)
	}
	r.content.Lock()
	defer r.content.Unlock()
	linked, err := r.opts.Records.LocalContent(ctx, d)
	if err != nil || linked {
		return false, err
	}
	return true, r.opts.Store.Remove(ctx, d)
}

func (r *Registry) wouldGo(ctx context.Context, d godigest.Digest, gone map[place]bool) (bool, error) {
	names, err := r.opts.Records.RepositoriesWith(ctx, d)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if !gone[place{name, d}] {
			return false, nil
		}
	}
	return true, nil
}

// grain is how coarse the time is at which a blob was last said to exist.
func (r *Registry) grain() time.Duration { return min(10*time.Minute, r.opts.Grace/10) }

// place is a blob or a manifest in a repository.
type place struct {
	name   string
	digest godigest.Digest
}
