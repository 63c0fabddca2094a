package gate

import (
	"context"
	"fmt"
	"slices"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// chainBroken says how the manifest is not what one of the indexes that list it
// says of it; "" if it is. An index that is nowhere any more says nothing, nor
// does one that would have to be fetched again for an image that was allowed: it
// was asked then.
func (g *Gate) chainBroken(ctx context.Context, rt route.Route, e *entry, img *policy.Image) (string, error) {
	for _, d := range img.Parents {
		p, err := g.parent(ctx, rt, d, !img.AllowedSince.IsZero())
		if err != nil {
			return "", err
		}
		if p == nil || !p.manifest.Index {
			continue
		}
		desc, ok := p.manifest.Member(e.key.digest)
		if !ok {
			continue
		}
		is := e.manifest.Descriptor
		if e.bytes == nil { // judged again from the records, see brokenBefore
			is.Size = desc.Size
		}
		if why := disagrees(desc, is); why != "" {
			return fmt.Sprintf("the index %s says that %s %s", d, e.key.digest, why), nil
		}
	}
	return "", nil
}

// parent returns an index of rt's repository, nil if it is nowhere any more; with
// near, also if it is not here.
func (g *Gate) parent(ctx context.Context, rt route.Route, d godigest.Digest, near bool) (*entry, error) {
	k := key{rt.Name, d}
	if p, ok := g.entries.get(k); ok {
		return p, nil
	}
	if near && !rt.Local {
		has, err := g.opts.Store.Has(ctx, d)
		if err != nil || !has {
			return nil, err
		}
	}
	p, err := g.entry(ctx, byDigest(rt, d), d)
	if missing(err) {
		return nil, nil
	}
	return p, err
}

// brokenBefore reports whether the verdict is a denial for a broken chain, which
// nothing heals but the bytes themselves, at the next pull.
func brokenBefore(v *policy.Verdict) bool {
	return slices.ContainsFunc(v.Reasons, func(r policy.Reason) bool { return r.Rule == policy.RuleDigestChain })
}

// disagrees says how a manifest is not what an index's descriptor says, "" if it
// is (OCI image-spec, descriptor.md). Platforms are not compared: many images in
// use name another one in their config than their index does, and run.
func disagrees(said, is ocispec.Descriptor) string {
	switch {
	case said.Size != is.Size:
		return fmt.Sprintf("has %d bytes, and it has %d", said.Size, is.Size)
	case said.MediaType != is.MediaType:
		return fmt.Sprintf("is %q, and it is %q", said.MediaType, is.MediaType)
	}
	return ""
}
