package gate

import (
	"context"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// Rematched is what a Rematch did.
type Rematched struct {
	Judged  int // images with a new verdict
	Changed int // of these, those with another decision than before
	Failed  int // images that could not be judged; their next pull tries again
}

// Rematch judges the images again that hold one of the packages, with the
// advisories of now: those that were judged before by others, one after the
// other, from their stored inventories. Nothing is downloaded or analysed, and
// no verdict is withdrawn meanwhile. Nil keys mean every image. A decision that
// changes is logged and stands in the audit trail. The error is that of the
// records, or of ctx.
func (g *Gate) Rematch(ctx context.Context, keys []records.PackageKey) (Rematched, error) {
	var done Rematched
	images, err := g.opts.Records.ImagesWithPackages(ctx, keys)
	if err != nil {
		return done, fmt.Errorf("rematch: %w", err)
	}
	for i := range images {
		before, after, err := g.rematch(ctx, &images[i])
		switch {
		case ctx.Err() != nil:
			return done, fmt.Errorf("rematch: %w", context.Cause(ctx))
		case err != nil:
			g.opts.Log.Warn("image not judged again", zap.String("repository", images[i].Name), zap.Stringer("digest", images[i].Digest), zap.Error(err))
			done.Failed++
		case after.Decision == policy.Undecided:
		default:
			done.Judged++
			if after.Decision != before.Decision {
				done.Changed++
			}
		}
	}
	return done, nil
}

// rematch judges one image; after is Undecided if there was no need to.
func (g *Gate) rematch(ctx context.Context, img *records.Image) (before, after policy.Verdict, err error) {
	m := g.opts.Advisories.Current()
	if m == nil {
		return before, after, nil
	}
	before, ok, err := g.opts.Records.Verdict(ctx, img.Name, img.Digest)
	if err != nil || !ok || before.Advisories == m.Revision() || brokenBefore(&before) {
		return before, after, err
	}
	inv, ok, err := g.opts.Records.Inventory(ctx, img.Digest, g.opts.Analyzer.Revision())
	if err != nil || !ok {
		return before, after, err
	}
	rt, err := g.routeOf(ctx, img)
	if err != nil {
		return before, after, err
	}
	if after, err = g.rejudge(ctx, rt, img, inv, before, m); err != nil {
		return before, after, err
	}
	if after.Decision == before.Decision {
		return before, after, nil
	}
	return before, after, g.opts.Records.AuditRematch(ctx, &before, &after)
}

// routeOf is how the image would be asked for.
func (g *Gate) routeOf(ctx context.Context, img *records.Image) (route.Route, error) {
	rt := route.Route{Name: img.Name, Digest: img.Digest}
	rt.Upstream, rt.Repository, _ = strings.Cut(img.Name, "/")
	if g.opts.Local == nil {
		return rt, nil
	}
	_, pushed, err := g.opts.Records.LocalManifest(ctx, img.Name, img.Digest)
	if pushed {
		rt.Local, rt.Upstream = true, ""
	}
	return rt, err
}

// rejudge takes and records a verdict on an image that need not be in memory,
// nor its manifest in the store.
func (g *Gate) rejudge(ctx context.Context, rt route.Route, img *records.Image, inv *analyzer.Inventory, before policy.Verdict, m analyzer.Matcher) (policy.Verdict, error) {
	k := key{img.Name, img.Digest}
	e, ok := g.entries.get(k)
	var search *discovery
	if len(g.Policy().Trusts(k.name, k.digest)) > 0 { // its signatures count, and those of indexes that list it
		var err error
		if e, err = g.entry(ctx, rt, k.digest); err != nil {
			return policy.Verdict{}, err
		}
		if search, err = g.discover(ctx, rt, e); err != nil {
			return policy.Verdict{}, err
		}
		if err = g.await(ctx, search, e, discoveryTimeout); err != nil {
			return policy.Verdict{}, err
		}
		ok = true
	}
	if !ok {
		e = &entry{key: k, verdict: before, manifest: analyzer.Manifest{
			Descriptor: ocispec.Descriptor{MediaType: img.MediaType, Digest: img.Digest}, URLs: inv.URLs,
		}}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	err := g.decide(ctx, rt, e, inv, "", search, g.inputs(m), m)
	return e.verdict, err
}
