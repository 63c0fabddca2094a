package gate

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
)

// attests reports whether there can be attestations of Sluice's own.
func (g *Gate) attests() bool { return g.opts.Attest != nil && g.opts.Local != nil }

// Side returns a manifest of the side repository of rt's: what Sluice itself says
// of the images there. It is not judged. The error is ErrManifestUnknown where
// there is none.
func (g *Gate) Side(ctx context.Context, rt route.Route) (Admission, error) {
	unknown := fmt.Errorf("%s/%s: %w", route.SidePrefix, rt.Reference(), ErrManifestUnknown)
	if !g.attests() {
		return Admission{}, unknown
	}
	side, d := sideName(rt.Name), rt.Digest
	if rt.Tag != "" {
		var ok bool
		var err error
		if d, _, ok, err = g.opts.Records.Tag(ctx, side, rt.Tag); err != nil {
			return Admission{}, err
		}
		if !ok {
			return Admission{}, unknown
		}
	}
	m, b, err := g.opts.Local.Manifest(ctx, side, d)
	if errors.Is(err, records.ErrNotFound) || errors.Is(err, store.ErrNotFound) {
		return Admission{}, unknown
	}
	if err != nil {
		return Admission{}, err
	}
	parsed, err := analyzer.ParseManifest(m.MediaType, b)
	return Admission{Name: side, Manifest: parsed, Bytes: b, Verdict: policy.Verdict{Decision: policy.Allow}}, err
}

// SideBlob returns a blob of the side repository of rt's. The error is
// ErrBlobUnknown where there is none.
func (g *Gate) SideBlob(ctx context.Context, rt route.Route) (Blob, error) {
	if !g.attests() {
		return Blob{}, ErrBlobUnknown
	}
	size, err := g.opts.Local.Stat(ctx, sideName(rt.Name), rt.Digest)
	if errors.Is(err, local.ErrBlobUnknown) {
		return Blob{}, ErrBlobUnknown
	}
	if err != nil {
		return Blob{}, err
	}
	f, err := g.opts.Local.Open(rt.Digest)
	return Blob{Descriptor: ocispec.Descriptor{Digest: rt.Digest, Size: size}, File: f}, err
}

// SideTags lists the tags of the side repository, see records.DB.Tags.
func (g *Gate) SideTags(ctx context.Context, rt route.Route, last string, n int) ([]string, bool, error) {
	if !g.attests() {
		return nil, false, nil
	}
	return g.opts.Records.Tags(ctx, sideName(rt.Name), last, n)
}

// SideReferrers lists what Sluice attached to rt's digest.
func (g *Gate) SideReferrers(ctx context.Context, rt route.Route) ([]ocispec.Descriptor, error) {
	if !g.attests() {
		return nil, nil
	}
	list, err := g.opts.Records.LocalReferrers(ctx, sideName(rt.Name), rt.Digest)
	return descriptors(list), err
}

// beside returns a manifest by digest that the referrers of the repository list
// and Sluice made; ok is false for every other.
func (g *Gate) beside(ctx context.Context, rt route.Route) (a Admission, ok bool, err error) {
	if !g.attests() || rt.Digest == "" {
		return a, false, nil
	}
	if _, known := g.entries.get(key{rt.Name, rt.Digest}); known {
		return a, false, nil
	}
	a, err = g.Side(ctx, rt)
	if errors.Is(err, ErrManifestUnknown) {
		return a, false, nil
	}
	return a, err == nil, err
}
