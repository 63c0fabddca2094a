package gate

import (
	"context"
	"fmt"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// maxPromoted bounds the manifests that one promotion takes along.
const maxPromoted = 1024

// Promote pushes an image of the gated registry into another repository of it,
// without moving bytes: the manifest, for an index its children, and what refers
// to them (signatures, SBOMs). The policy and the mode of the target judge it,
// as they would a push; for the errors see Push. The verdict on the source does
// not count. What was taken along before an error stays, as after a push that
// broke off.
func (g *Gate) Promote(ctx context.Context, from, to route.Route, by string, tags []records.PushedTag) (Pushed, error) {
	at := tagged{digest: from.Digest}
	if from.Tag != "" {
		var err error
		if at, err = g.resolveLocal(ctx, from); err != nil {
			return Pushed{}, err
		}
	}
	p := promotion{g: g, from: from, to: to, by: by, done: map[godigest.Digest]bool{}}
	return p.manifest(ctx, at.digest, tags)
}

// promotion is one under way.
type promotion struct {
	g        *Gate
	from, to route.Route
	by       string
	done     map[godigest.Digest]bool
}

// manifest pushes d after what it consists of and what refers to it.
func (p *promotion) manifest(ctx context.Context, d godigest.Digest, tags []records.PushedTag) (Pushed, error) {
	if len(p.done) == maxPromoted {
		return Pushed{}, &ManifestError{fmt.Sprintf("%s consists of more than %d manifests", p.from.Reference(), maxPromoted)}
	}
	p.done[d] = true
	e, err := p.g.entry(ctx, p.from, d)
	if err != nil {
		return Pushed{}, err
	}
	if e.unread != "" {
		return Pushed{}, &ManifestError{e.unread}
	}
	members := push(e, p.from, PushRequest{})
	for _, child := range members.Children {
		if !p.done[child] {
			if _, err := p.manifest(ctx, child, nil); err != nil {
				return Pushed{}, err
			}
		}
	}
	for _, blob := range members.Blobs {
		if err := p.g.opts.Local.Mount(ctx, p.from.Name, p.to.Name, blob); err != nil {
			return Pushed{}, err
		}
	}
	if err := p.attached(ctx, d); err != nil {
		return Pushed{}, err
	}
	return p.g.Push(ctx, byDigest(p.to, d), PushRequest{Bytes: e.bytes, MediaType: e.manifest.Descriptor.MediaType, Pusher: p.by, Tags: tags})
}

// attached pushes what refers to d: by a subject, and by a tag that is made of
// the digest, as cosign does. It comes first, since the target's policy may
// demand it.
func (p *promotion) attached(ctx context.Context, d godigest.Digest) error {
	referrers, err := p.g.opts.Records.LocalReferrers(ctx, p.from.Name, d)
	if err != nil {
		return err
	}
	for _, r := range referrers {
		if !p.done[r.Digest] {
			if _, err := p.manifest(ctx, r.Digest, nil); err != nil {
				return err
			}
		}
	}
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		tag := d.Algorithm().String() + "-" + d.Encoded() + suffix
		r, _, ok, err := p.g.opts.Records.Tag(ctx, p.from.Name, tag)
		if err != nil {
			return err
		}
		if ok && !p.done[r] {
			if _, err := p.manifest(ctx, r, []records.PushedTag{{Name: tag}}); err != nil {
				return err
			}
		}
	}
	return nil
}
