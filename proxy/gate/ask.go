package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// PlatformError says that an index has no image for the platform.
type PlatformError struct {
	Want string
	Have []string
}

// Error names the platforms that there are.
func (e *PlatformError) Error() string {
	return fmt.Sprintf("no image for %s; there is %s", e.Want, strings.Join(e.Have, ", "))
}

// Judge returns the verdict on what rt asks for, one that denies too, and serves
// nothing. The image is downloaded and analysed first where it is not known. Of
// an index that is the strictest of its own verdict and that on the image for
// the platform. The error is a *PendingError, a *PlatformError, or what the
// upstream answered.
func (g *Gate) Judge(ctx context.Context, rt route.Route, platform ocispec.Platform) (godigest.Digest, policy.Verdict, error) {
	at := tagged{digest: rt.Digest}
	if rt.Tag != "" {
		var err error
		at, err = g.resolve(ctx, rt)
		if denied := new(policy.DeniedError); errors.As(err, &denied) { // the tag moved
			return denied.Verdict.Digest, denied.Verdict, nil
		}
		if err != nil {
			return "", policy.Verdict{}, err
		}
	}
	e, err := g.entry(ctx, rt, at.digest)
	if err != nil {
		return at.digest, policy.Verdict{}, err
	}
	v, err := g.verdict(ctx, rt, e)
	if err != nil || !e.manifest.Index || !v.Decision.Serves() {
		return at.digest, v, err
	}
	child, err := choose(e.manifest.Children, platform)
	if err != nil {
		return at.digest, policy.Verdict{}, err
	}
	rt = byDigest(rt, child)
	if e, err = g.entry(ctx, rt, child); err != nil {
		return at.digest, policy.Verdict{}, err
	}
	of, err := g.verdict(ctx, rt, e)
	if err != nil {
		return at.digest, policy.Verdict{}, err
	}
	if of.Decision > v.Decision {
		v = of
	}
	return at.digest, v, nil
}

// verdict is judge for those who want the verdict and not the content.
func (g *Gate) verdict(ctx context.Context, rt route.Route, e *entry) (policy.Verdict, error) {
	v, err := g.judge(ctx, rt, e, g.opts.AnalysisTimeout)
	var denied *policy.DeniedError
	if errors.As(err, &denied) {
		return denied.Verdict, nil
	}
	return v, err
}

// choose returns the first child for the platform, as clients do (OCI
// image-spec, image-index.md). BuildKit's statements about the others are for
// unknown/unknown and never are that.
func choose(children []ocispec.Descriptor, want ocispec.Platform) (godigest.Digest, error) {
	text := func(p *ocispec.Platform) string {
		if p == nil {
			return "one of no platform"
		}
		return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
	}
	none := &PlatformError{Want: text(&want)}
	for _, c := range children {
		p := c.Platform
		if p != nil && p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant) {
			return c.Digest, nil
		}
		none.Have = append(none.Have, text(p))
	}
	return "", none
}
