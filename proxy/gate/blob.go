package gate

import (
	"context"
	"errors"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// Blob is a blob that may leave. Either File or Tail is set.
type Blob struct {
	Descriptor ocispec.Descriptor
	File       *os.File    // in the store
	Tail       *fetch.Tail // being downloaded; its last byte comes when all are verified
}

// Close closes whichever of the two is set.
func (b Blob) Close() error {
	if b.File != nil {
		return b.File.Close()
	}
	return b.Tail.Close()
}

// Blob returns the blob that rt asks for if a manifest of the repository that
// names it may be served. The error is ErrBlobUnknown where no manifest names
// it, else why those that do may not be served.
func (g *Gate) Blob(ctx context.Context, rt route.Route) (Blob, error) {
	desc, err := g.admitMember(ctx, rt)
	if err != nil {
		return Blob{}, err
	}
	f, t, err := g.open(ctx, rt, desc)
	if err != nil {
		return Blob{}, err
	}
	return Blob{Descriptor: desc, File: f, Tail: t}, nil
}

// admitMember returns the descriptor of rt's blob in a manifest that serves.
func (g *Gate) admitMember(ctx context.Context, rt route.Route) (ocispec.Descriptor, error) {
	manifests, err := g.opts.Records.ManifestsWith(ctx, rt.Name, rt.Digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	refusal := error(ErrBlobUnknown)
	for _, d := range manifests {
		e, err := g.entry(ctx, rt, d)
		if err != nil {
			refusal = err
			continue
		}
		desc, ok := e.manifest.Member(rt.Digest)
		if e.manifest.Index || !ok { // children of an index are manifests, not blobs
			continue
		}
		byDigest := rt
		byDigest.Tag, byDigest.Digest = "", d
		if _, err := g.judge(ctx, byDigest, e); err != nil {
			refusal = err
			continue
		}
		return desc, nil
	}
	return ocispec.Descriptor{}, refusal
}

// open gives the blob's bytes from the store, or joins its download.
func (g *Gate) open(ctx context.Context, rt route.Route, desc ocispec.Descriptor) (*os.File, *fetch.Tail, error) {
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
			if permanent(err) {
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
