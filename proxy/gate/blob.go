package gate

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// Blob is a blob that may leave, now or when Release says so. Either File or
// Tail is set.
type Blob struct {
	Descriptor ocispec.Descriptor
	File       *os.File    // in the store
	Tail       *fetch.Tail // being downloaded; its last byte comes when all are verified

	// Release is nil for a blob that may leave whole. Else its image is not
	// judged yet: the end of the blob must be withheld until Release, which waits
	// for the verdict, returns nil. An error means that the rest must not leave.
	Release func(ctx context.Context) error
}

// Close closes whichever of File and Tail is set.
func (b Blob) Close() error {
	if b.File != nil {
		return b.File.Close()
	}
	return b.Tail.Close()
}

// Blob returns the blob that rt asks for if a manifest of the repository that
// names it may be served. While such a manifest is still being judged, and
// Options.Stream is set, the blob comes with a Release. The error is
// ErrBlobUnknown where no manifest names it, else why those that do may not be
// served.
func (g *Gate) Blob(ctx context.Context, rt route.Route) (Blob, error) {
	desc, unjudged, err := g.admitMember(ctx, rt)
	if errors.Is(err, ErrBlobUnknown) {
		return g.SideBlob(ctx, rt)
	}
	if err != nil {
		return Blob{}, err
	}
	b := Blob{Descriptor: desc}
	if b.File, b.Tail, err = g.open(ctx, rt, desc); err != nil {
		return Blob{}, err
	}
	if len(unjudged) > 0 {
		b.Release = func(ctx context.Context) error { return g.release(ctx, rt, unjudged) }
	}
	return b, nil
}

// admitMember returns the descriptor of rt's blob in a manifest that serves, or
// else the manifests on which no verdict is in yet.
func (g *Gate) admitMember(ctx context.Context, rt route.Route) (desc ocispec.Descriptor, unjudged []*entry, err error) {
	manifests, err := g.members.of(ctx, g.opts.Records, key{rt.Name, rt.Digest})
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	refusal := error(ErrBlobUnknown)
	for d := range g.nearFirst(rt.Name, manifests) {
		e, err := g.entry(ctx, rt, d)
		if err != nil {
			refusal = err
			continue
		}
		member, ok := e.manifest.Member(rt.Digest)
		if e.manifest.Index || !ok { // children of an index are manifests, not blobs
			continue
		}
		_, err = g.judge(ctx, byDigest(rt, d), e, g.blobHold())
		var analysing *analysingError
		switch {
		case err == nil:
			return member, nil, nil
		case errors.As(err, &analysing) && g.opts.Stream:
			desc, unjudged = member, append(unjudged, e)
		default:
			refusal = err
		}
	}
	if len(unjudged) > 0 {
		return desc, unjudged, nil
	}
	return ocispec.Descriptor{}, nil, refusal
}

// nearFirst gives the manifests that are in memory before the others, for which
// the upstream may have to be asked: a client has just got the one that it
// pulls, whatever became of older ones that share a layer with it.
func (g *Gate) nearFirst(name string, manifests []godigest.Digest) iter.Seq[godigest.Digest] {
	return func(yield func(godigest.Digest) bool) {
		var far []godigest.Digest
		for _, d := range manifests {
			if !g.entries.has(key{name, d}) {
				far = append(far, d)
			} else if !yield(d) {
				return
			}
		}
		for _, d := range far {
			if !yield(d) {
				return
			}
		}
	}
}

// blobHold is how long a blob waits for a verdict. With streaming it need not
// wait at all: its end is withheld instead.
func (g *Gate) blobHold() time.Duration {
	if g.opts.Stream {
		return 0
	}
	return g.opts.Hold
}

// release waits for the verdicts on entries and returns nil as soon as one
// serves, else why the last of them does not.
func (g *Gate) release(ctx context.Context, rt route.Route, entries []*entry) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	verdicts := make(chan error, len(entries))
	for _, e := range entries {
		go func() {
			_, err := g.judge(ctx, byDigest(rt, e.key.digest), e, g.opts.AnalysisTimeout)
			verdicts <- err
		}()
	}
	var refusal error
	for range entries {
		if refusal = <-verdicts; refusal == nil {
			break
		}
	}
	return refusal
}

// byDigest is rt as a request for the manifest d.
func byDigest(rt route.Route, d godigest.Digest) route.Route {
	rt.Kind, rt.Tag, rt.Digest = route.Manifest, "", d
	return rt
}

// memberCache remembers which manifests of a repository name a blob.
type memberCache struct {
	mu      sync.Mutex
	m       map[key][]godigest.Digest
	changes uint64 // so that an answer read before a change is not kept after it
}

// maxMembers bounds the cache; past it all entries are dropped and read again.
const maxMembers = 1 << 16

func (c *memberCache) of(ctx context.Context, db *records.DB, blob key) ([]godigest.Digest, error) {
	c.mu.Lock()
	ds, ok := c.m[blob]
	changes := c.changes
	c.mu.Unlock()
	if ok {
		return ds, nil
	}
	ds, err := db.ManifestsWith(ctx, blob.name, blob.digest)
	if err != nil || len(ds) == 0 {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= maxMembers {
		clear(c.m)
	}
	if c.changes == changes {
		c.m[blob] = ds
	}
	return ds, nil
}

// forget drops what is known of the members of a manifest that is new.
func (c *memberCache) forget(name string, members []godigest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	for _, d := range members {
		delete(c.m, key{name, d})
	}
}

// open gives the blob's bytes from the store, or joins its download.
func (g *Gate) open(ctx context.Context, rt route.Route, desc ocispec.Descriptor) (*os.File, *fetch.Tail, error) {
	if rt.Local {
		f, err := g.openLocal(desc)
		return f, nil, err
	}
	for {
		f, err := g.opts.Store.OpenBlob(desc.Digest)
		if err == nil {
			return f, nil, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, nil, err
		}
		up, err := g.opts.Upstreams.Upstream(rt.Upstream)
		if err != nil {
			return nil, nil, err
		}
		t, err := g.opts.Fetch.Join(ctx, desc.Digest, desc.Size, func(ctx context.Context, offset, size int64) (io.ReadCloser, int64, error) {
			body, total, err := up.Blob(ctx, rt.Repository, desc.Digest, offset, size)
			if permanent(err) || later(err) {
				err = fetch.Permanent(err)
			}
			return body, total, err
		})
		if errors.Is(err, fetch.ErrStored) {
			continue // committed since OpenBlob looked
		}
		return nil, t, err
	}
}

// permanent reports whether asking the upstream again is of no use: it
// answered, and not with 408, 429 or 5xx.
func permanent(err error) bool {
	var status *upstream.StatusError
	var content *upstream.ContentError
	if errors.As(err, &status) {
		return status.Status < 500 && status.Status != 429 && status.Status != 408
	}
	return errors.As(err, &content)
}

// soon is how long an upstream may ask to be left alone for the download of a
// blob to try it again meanwhile.
const soon = 2 * time.Second

// later reports whether the upstream wants to be left alone for longer than a
// download tries again.
func later(err error) bool {
	var status *upstream.StatusError
	return errors.As(err, &status) && status.RetryAfter > soon
}
